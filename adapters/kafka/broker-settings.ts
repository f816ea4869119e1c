import type { Finding } from '../../src/contract/topology.ts'
import type { Resolved } from './options.ts'

type Config = Readonly<Record<string, string>>

/** A setting of a broker, and when it is weak. */
interface Rule {
  readonly severity: Finding['severity']
  readonly code: string
  readonly setting: string
  readonly isWeak: (value: string | undefined, options: Resolved) => boolean
  readonly message: string
}

/** What is done beyond a stuck message is noted in that many bytes per partition. */
const METADATA_BYTES = 4_096
const A_DAY_IN_MINUTES = 1_440

const isTrue = (value: string | undefined): boolean => value === 'true'
/** A setting that the broker does not tell is not weak. */
const isLess = (least: number) => (value: string | undefined) => Number(value ?? least) < least

const rules: readonly Rule[] = [
  {
    severity: 'warning',
    code: 'auto-create',
    setting: 'auto.create.topics.enable',
    isWeak: isTrue,
    message:
      'it is on: a misspelt name becomes a topic with the settings of the broker; holdfast never asks for that, others may',
  },
  {
    severity: 'warning',
    code: 'unclean-election',
    setting: 'unclean.leader.election.enable',
    isWeak: isTrue,
    message:
      'it is on: topics that do not say otherwise themselves may lose stored messages when brokers fail',
  },
  {
    severity: 'warning',
    code: 'offset-metadata',
    setting: 'offset.metadata.max.bytes',
    isWeak: isLess(METADATA_BYTES),
    message: `it is less than ${METADATA_BYTES}: more of what was done beyond a stuck message is delivered again after a takeover`,
  },
  {
    severity: 'warning',
    code: 'offsets-retention',
    setting: 'offsets.retention.minutes',
    isWeak: isLess(A_DAY_IN_MINUTES),
    message:
      'it is less than a day: a group without consumers for that long gets everything again that is kept',
  },
  {
    severity: 'error',
    code: 'session-timeout',
    setting: 'group.max.session.timeout.ms',
    isWeak: (value, { sessionTimeoutMs }) => Number(value ?? sessionTimeoutMs) < sessionTimeoutMs,
    message: 'it is less than the option sessionTimeoutMs: no consumer can join',
  },
  {
    severity: 'error',
    code: 'session-timeout',
    setting: 'group.min.session.timeout.ms',
    isWeak: (value, { sessionTimeoutMs }) => Number(value ?? sessionTimeoutMs) > sessionTimeoutMs,
    message: 'it is more than the option sessionTimeoutMs: no consumer can join',
  },
  {
    severity: 'info',
    code: 'flush',
    setting: 'log.flush.interval.messages',
    isWeak: (value) => value !== '1',
    message:
      'a message counts as stored when its copies are in the memory of their brokers: when all of them lose power at once, the last seconds are lost',
  },
]

/** What is weak about the settings of one broker. */
export function brokerFindings(
  node: number,
  config: Config,
  options: Resolved,
): readonly Finding[] {
  // None at all: this user may not look.
  if (Object.keys(config).length === 0) return []
  return rules
    .filter(({ setting, isWeak }) => isWeak(config[setting], options))
    .map(({ severity, code, setting, message }) => ({
      severity,
      code: `kafka.${code}`,
      subject: `broker ${node}`,
      message: `${setting}: ${message}`,
      found: config[setting] ?? 'not told',
    }))
}
