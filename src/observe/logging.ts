import { OptionError } from '../contract/errors.ts'
import type { EventType, HoldfastEvent } from '../contract/events.ts'
import type { Emitter } from './emitter.ts'

/** Where lines go; `console` fits. */
export interface LogSink {
  warn(line: string): void
}

/** How a publisher, consumer or relay logs: to stderr (default), to a sink of yours, or not at all. */
export type Logging = LogSink | 'silent'

/** What is worth a line without being asked for. Everything else is there for listeners. */
const loggedTypes: readonly EventType[] = [
  'warning',
  'broker.state',
  'breaker.state',
  'relay.error',
  'relay.parked',
  'message.dead',
  'message.discarded',
  'message.undedupable',
  'handler.stuck',
  'lane.full',
  'settle.failed',
  'consumer.ended',
  'process.unconfirmed',
]

/** The option as it is; throws an `OptionError` for what cannot be logged to. */
export function loggingOption(given: Logging | undefined): Logging | undefined {
  const sink = given as LogSink | null | undefined
  if (given === undefined || given === 'silent' || typeof sink?.warn === 'function') return given
  throw new OptionError('logging', given, "'silent' or an object with warn(line)")
}

const stderr: LogSink = { warn: (line) => void process.stderr.write(`${line}\n`) }

/** Logs what somebody on call wants to see; a `warning` with the same text only once. */
export function logEvents(emitter: Emitter, logging: Logging = stderr): void {
  if (logging === 'silent') return
  const seen = new Set<string>()
  emitter.on((event) => {
    const line = lineOf(event)
    if (line === null) return undefined
    if (event.type === 'warning') {
      if (seen.has(line)) return undefined
      if (seen.size < 1_000) seen.add(line)
    }
    // Returned for the emitter, which looks after a sink that writes asynchronously.
    return logging.warn(`holdfast: ${line}`)
  }, loggedTypes)
}

function lineOf(event: HoldfastEvent): string | null {
  switch (event.type) {
    case 'warning':
      return `${event.message} (${event.code})`
    case 'broker.state':
      return event.state.status === 'up' ? null : stateLine(event.broker, event.state)
    case 'breaker.state':
      return `circuit breaker "${event.name}" is ${event.state}`
    case 'relay.error':
      return `relay failed at ${event.step}: ${event.error.message}`
    case 'relay.parked':
      return `outbox row ${event.id} of topic "${event.topic}" was parked: ${event.reason}`
    case 'message.dead':
    case 'message.discarded':
      return givenUpLine(event)
    case 'message.undedupable':
      return `message at ${event.at} of topic "${event.topic}" has no id: handled without dedup`
    case 'handler.stuck':
      return `handler of ${event.id ?? event.at} (topic "${event.topic}", group "${event.group}") ignores its signal for ${Math.round(event.forMs)} ms`
    case 'lane.full':
      return `source ${event.source} is paused: its held deliveries reached the limit of ${event.limit}`
    case 'settle.failed':
      return `${event.count} settles failed: ${event.error.message}`
    case 'consumer.ended':
      return event.error === null
        ? null
        : `consumer of group "${event.group}" ended: ${event.error.message}`
    case 'process.unconfirmed':
      return `${event.count} messages were not confirmed when the process ended`
    default:
      return null
  }
}

function stateLine(broker: string, state: { status: string; reason: string | null }): string {
  return `broker ${broker} is ${state.status}${state.reason === null ? '' : `: ${state.reason}`}`
}

function givenUpLine(
  event: Extract<HoldfastEvent, { type: 'message.dead' | 'message.discarded' }>,
): string {
  const what = event.type === 'message.dead' ? 'dead-lettered' : 'discarded'
  const error = event.type === 'message.dead' && event.error !== null ? event.error.message : ''
  return `message ${event.id ?? event.at} of topic "${event.topic}", group "${event.group}" was ${what} (${event.reason}) after ${event.attempt} attempts${error ? `: ${error}` : ''}`
}
