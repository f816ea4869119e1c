import type { Clock } from '../contract/clock.ts'
import { isOwnHeader, ownHeaders } from '../contract/headers.ts'
import type { Envelope, HeaderValue, Headers } from '../contract/message.ts'
import type { Held } from './held.ts'
import type { Verdict } from './outcome.ts'
import { legOf } from './retry-levels.ts'

/** The verdict that sends a message to the dead letters. */
export type DeadVerdict = Extract<Verdict, { kind: 'dead' }>

const LONGEST_ERROR = 1_024

/**
 * The envelope that goes to the group's dead letters: body, id, key, time and headers as they came,
 * and own headers that say why, after how many attempts, when and from where.
 */
export function deadLetter(
  held: Held,
  group: string,
  { reason, error, made }: DeadVerdict,
  clock: Clock,
): Envelope {
  const { delivery, topic } = held
  const { envelope, source, at } = delivery
  const own: [string, HeaderValue][] = [
    [ownHeaders.deadReason, reason],
    [ownHeaders.deadAttempts, String(made)],
    [ownHeaders.deadAt, String(Math.trunc(clock.wallMs()))],
    [ownHeaders.deadFrom, at.startsWith(source.name) ? at : `${source.name} ${at}`],
  ]
  if (error !== null) own.push([ownHeaders.deadError, errorText(error)])
  return {
    ...envelope,
    to: { kind: 'dead', topic: topic.name, group },
    headers: replaced(envelope.headers, own, [ownHeaders.attempt, ownHeaders.remaining]),
    deliverAtMs: null,
  }
}

/**
 * The envelope that waits at a retry level for the same group: everything as it came but the count
 * of attempts made and what is left of a longer delay.
 */
export function retryLetter(held: Held, group: string, delayMs: number, made: number): Envelope {
  const { delivery, topic } = held
  const { levelMs, remainingMs } = legOf(delayMs, topic.retryLevelsMs)
  const own: [string, HeaderValue][] = [[ownHeaders.attempt, String(made)]]
  if (remainingMs > 0) own.push([ownHeaders.remaining, String(remainingMs)])
  return {
    ...delivery.envelope,
    to: { kind: 'group', topic: topic.name, group, delayMs: levelMs },
    headers: replaced(delivery.envelope.headers, own, [ownHeaders.remaining]),
    deliverAtMs: null,
  }
}

/** The dead letter without the headers it came with: what they take up, or hold, may be why it is refused. */
export function bareLetter(letter: Envelope): Envelope {
  const own = letter.headers.filter(([name]) => isOwnHeader(name))
  return { ...letter, headers: [...own, [ownHeaders.deadBare, '1']] }
}

function replaced(
  headers: Headers,
  own: readonly (readonly [string, HeaderValue])[],
  dropped: readonly string[],
): Headers {
  const names = new Set([...dropped, ...own.map(([name]) => name)])
  return [...headers.filter(([name]) => !names.has(name)), ...own]
}

function errorText(error: Error): string {
  const text = `${error.name}: ${error.message}`
  return text.length <= LONGEST_ERROR ? text : `${text.slice(0, LONGEST_ERROR - 1)}…`
}
