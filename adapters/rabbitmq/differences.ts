import type { Finding } from '../../src/contract/topology.ts'
import type { WantedQueue } from './wanted.ts'

/** One setting of a queue that is not as it is declared. Values as text, `none` for what is not set. */
export interface Difference {
  readonly setting: string
  readonly declared: string
  readonly found: string
  /** Only arguments were seen: a policy may say what they do not. */
  readonly argumentsOnly: boolean
}

/** Value of a setting that is not there. */
export const NONE = 'none'

type Severity = Finding['severity']
type Role = WantedQueue['role']

/** How bad it is, and what it means; the roles that are not named keep their promise without it. */
interface Meaning {
  readonly text: string
  readonly severity: Severity | Readonly<Partial<Record<Role, Severity>>>
}

const meanings: Readonly<Record<string, Meaning>> = {
  'queue-type': {
    text: 'only quorum queues keep a message on several nodes, count failed deliveries and dead-letter without loss',
    severity: { retry: 'error', group: 'warning', dead: 'warning' },
  },
  durable: { text: 'a restart of the broker takes the queue with it', severity: 'error' },
  'auto-delete': { text: 'the queue goes with its last consumer', severity: 'error' },
  exclusive: { text: 'the queue goes with the connection that made it', severity: 'error' },
  overflow: {
    text: 'when the queue is full, confirmed messages are dropped, and dead letters may be lost on their way',
    severity: { retry: 'error', group: 'error', dead: 'error' },
  },
  'message-ttl': {
    text: 'the time to live decides when messages leave the queue',
    severity: { retry: 'error', group: 'error', dead: 'warning' },
  },
  expires: { text: 'an unused queue is deleted with what is in it', severity: 'error' },
  'dead-letter-exchange': {
    text: 'where messages go that expire or were delivered too often',
    severity: { retry: 'error', group: 'warning', dead: 'info' },
  },
  'dead-letter-routing-key': {
    text: 'where messages go that expire or were delivered too often',
    severity: { retry: 'error', group: 'warning', dead: 'info' },
  },
  'dead-letter-strategy': {
    text: 'dead letters may be lost on their way',
    severity: { retry: 'error', group: 'warning', dead: 'info' },
  },
  'delivery-limit': {
    text: 'after that many failed deliveries the broker dead-letters or drops the message by itself',
    severity: 'warning',
  },
  'delayed-retry-type': {
    text: 'whether the queue delays what it gets back has to be as the options say: else retries are early, or the order of a key is lost',
    severity: { group: 'error' },
  },
  'delayed-retry-min': {
    text: 'retries come back at other times than the options say',
    severity: { group: 'error' },
  },
  'delayed-retry-max': {
    text: 'retries come back at other times than the options say',
    severity: { group: 'error' },
  },
  // A relay or publisher is not hurt by it; a consumer that needs the order refuses the queue.
  'single-active-consumer': {
    text: 'several consumer processes of one queue do not keep the order of a key',
    severity: 'warning',
  },
}

/** The difference as a finding. What is set although nothing asks for it is worth knowing at least. */
export function differenceFinding(
  queue: WantedQueue,
  difference: Difference,
  allowDropOnLimit: boolean,
): Finding {
  const { setting, declared, found, argumentsOnly } = difference
  const { text, severity } = meanings[setting] ?? { text: '', severity: 'warning' as const }
  const usual = typeof severity === 'string' ? severity : (severity[queue.role] ?? 'info')
  // Without one the broker drops what was delivered too often.
  const drops = setting === 'dead-letter-exchange' && queue.role === 'group' && found === NONE
  const perRole = drops && !allowDropOnLimit ? 'error' : usual
  const byPolicy = argumentsOnly && found === NONE
  const asked = setting === 'single-active-consumer' && declared === NONE ? 'info' : perRole
  return {
    severity: byPolicy && asked === 'error' ? 'warning' : asked,
    code: `rabbitmq.queue-${setting}`,
    subject: queue.name,
    message: `${setting} is ${found}, declared is ${declared}${text === '' ? '' : `: ${text}`}${howToChange(byPolicy)}`,
    declared,
    found,
  }
}

function howToChange(byPolicy: boolean): string {
  if (byPolicy) return '; a policy may set it: give managementUrl and it is looked at'
  return '; change it by a policy, or let the queue run empty, delete it and start again; or set the option to what is there'
}
