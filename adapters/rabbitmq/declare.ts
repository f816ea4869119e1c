import type { HoldfastError } from '../../src/contract/errors.ts'
import type { Finding } from '../../src/contract/topology.ts'
import type { Channel } from './client.ts'
import { NONE, type Difference } from './differences.ts'
import { isPassing, REPLY, refusedRequest, replyCodeOf } from './errors.ts'
import { mismatchOf } from './mismatch.ts'
import type { Operations } from './operations.ts'
import type { Setting, Settings, Wanted, WantedExchange, WantedQueue } from './wanted.ts'

/** Most arguments of one queue that can differ. */
const MOST_DIFFERENCES = 16

/** How a declaration went. `passing`: the broker could not answer now, although it may have the thing. */
export type Declared =
  | { readonly status: 'ok' }
  | { readonly status: 'different'; readonly differences: readonly Difference[] }
  | { readonly status: 'passing'; readonly error: HoldfastError }

const OK: Declared = Object.freeze({ status: 'ok' })

/** Attributes of a queue that are no arguments. */
interface Attributes {
  durable: boolean
  autoDelete: boolean
}

/** The arguments with which a queue is declared: all its settings, or only what no policy can say. */
function argumentsOf(queue: WantedQueue, byPolicy: boolean): Settings {
  const given = byPolicy ? queue.fixed : { ...queue.fixed, ...queue.settings }
  return Object.fromEntries(Object.entries(given).map(([name, value]) => [`x-${name}`, value]))
}

/**
 * Makes what is missing, and changes nothing that exists. Of a queue that exists with other arguments
 * all differences are found, one 406 at a time, each on a channel of its own. Rejects with a
 * `HoldfastError` for what cannot be declared at all.
 */
export async function declare(
  operations: Operations,
  wanted: Wanted,
  byPolicy: boolean,
): Promise<Declared> {
  if (wanted.kind === 'queue') return declareQueue(operations, wanted, byPolicy)
  const doing =
    wanted.kind === 'exchange'
      ? `declaring exchange "${wanted.name}"`
      : `binding queue "${wanted.queue}" to exchange "${wanted.exchange}"`
  return attempt(operations, doing, async (channel) => {
    if (wanted.kind === 'exchange') {
      await channel.assertExchange(wanted.name, wanted.type, { durable: true })
    } else {
      await channel.bindQueue(wanted.queue, wanted.exchange, wanted.key)
    }
  })
}

/** Whether it is there, without needing the right to make it; `passing` when the broker cannot say now. */
export async function exists(
  operations: Pick<Operations, 'raw'>,
  wanted: WantedExchange | WantedQueue,
): Promise<'there' | 'missing' | 'passing'> {
  const doing = `looking for ${wanted.kind} "${wanted.name}"`
  try {
    await operations.raw<unknown>(doing, (channel) =>
      wanted.kind === 'queue'
        ? channel.checkQueue(wanted.name)
        : channel.checkExchange(wanted.name),
    )
    return 'there'
  } catch (error) {
    if (isPassing(error)) return 'passing'
    if (replyCodeOf(error) === REPLY.notFound) return 'missing'
    throw refusedRequest(doing, error)
  }
}

async function declareQueue(
  operations: Operations,
  queue: WantedQueue,
  byPolicy: boolean,
): Promise<Declared> {
  const doing = `declaring queue "${queue.name}"`
  const given = new Map<string, Setting>(Object.entries(argumentsOf(queue, byPolicy)))
  const attributes: Attributes = { durable: true, autoDelete: false }
  const differences: Difference[] = []
  for (let tries = 0; tries <= MOST_DIFFERENCES; tries++) {
    const declared = await attempt(operations, doing, (channel) =>
      channel.assertQueue(queue.name, { ...attributes, arguments: Object.fromEntries(given) }),
    )
    if (declared.status === 'passing') return declared
    if (declared.status === 'ok') break
    const [difference] = declared.differences as [Difference]
    // Adopted and still different: the rest cannot be told.
    if (differences.some(({ setting }) => setting === difference.setting)) break
    differences.push(difference)
    adopt(difference, given, attributes)
  }
  return differences.length === 0 ? OK : { status: 'different', differences }
}

/** The next try declares what is there, so that the broker names the next difference. */
function adopt(
  { setting, found }: Difference,
  given: Map<string, Setting>,
  attributes: Attributes,
): void {
  if (setting === 'durable') attributes.durable = found === 'true'
  else if (setting === 'auto-delete') attributes.autoDelete = found === 'true'
  else if (found === NONE) given.delete(`x-${setting}`)
  else given.set(`x-${setting}`, settingOf(found, given.get(`x-${setting}`)))
}

/** The broker tells no types when both sides have a value: then they are the same. */
function settingOf(found: string, declared: Setting | undefined): Setting {
  if (typeof declared === 'string') return found
  if (found === 'true' || found === 'false') return found === 'true'
  return /^-?\d+$/.test(found) ? Number(found) : found
}

async function attempt(
  operations: Operations,
  doing: string,
  work: (channel: Channel) => Promise<unknown>,
): Promise<Declared> {
  try {
    await operations.raw(doing, work)
    return OK
  } catch (error) {
    const difference = mismatchOf(error)
    if (difference !== null) return { status: 'different', differences: [difference] }
    const named = refusedRequest(doing, error)
    if (isPassing(error) || named.code === 'timeout' || named.code === 'connection-lost') {
      return { status: 'passing', error: named }
    }
    throw named
  }
}

/** An exchange that is not of the declared type or not durable, as a finding. */
export function exchangeFinding(
  exchange: WantedExchange,
  { setting, declared, found }: Difference,
): Finding {
  return {
    severity: 'error',
    code: `rabbitmq.exchange-${setting}`,
    subject: exchange.name,
    message: `the exchange exists with ${setting} ${found}, declared is ${declared}: map the topic to another exchange, or delete this one`,
    declared,
    found: found === '' ? NONE : found,
  }
}
