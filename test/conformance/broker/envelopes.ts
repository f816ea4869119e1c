import type { Destination, Envelope, Headers } from '../../../src/contract/message.ts'

const utf8 = new TextEncoder()

/** What a case says about an envelope; the rest is filled in. */
export interface Draft {
  readonly id?: string | null
  readonly key?: string | null
  readonly body?: Uint8Array | string | null
  readonly headers?: Headers
  readonly to?: Destination
  readonly deliverAtMs?: number | null
}

let made = 0

/** An envelope as the core would hand it over; `id` is unique in this process unless given. */
export function draft(topic: string, given: Draft = {}): Envelope {
  const key = given.key ?? null
  const body = given.body === undefined ? `body ${made}` : given.body
  return {
    id: given.id === undefined ? `${topic}#${made++}` : given.id,
    type: 'conformance.case',
    producer: '/conformance',
    to: given.to ?? { kind: 'topic', topic },
    key: key === null ? null : utf8.encode(key),
    orderKey: key,
    body: typeof body === 'string' ? utf8.encode(body) : body,
    headers: given.headers ?? [],
    contentType: 'application/octet-stream',
    timeMs: 1_767_225_600_123,
    deliverAtMs: given.deliverAtMs ?? null,
  }
}

/** `count` envelopes of one key (or none) with bodies `<key>:<n>`, n from `first`. */
export function run(
  topic: string,
  key: string | null,
  count: number,
  first = 0,
): readonly Envelope[] {
  return Array.from({ length: count }, (_, n) =>
    draft(topic, { key, body: `${key ?? '-'}:${first + n}` }),
  )
}

/** The copy a receiver has to make before a delivery is settled: the body is a view until then. */
export function copied(envelope: Envelope): Envelope {
  return {
    ...envelope,
    key: envelope.key && envelope.key.slice(),
    body: envelope.body && envelope.body.slice(),
    headers: envelope.headers.map(([name, value]) => [
      name,
      value instanceof Uint8Array ? value.slice() : value,
    ]),
  }
}

/** The body as text; fails the reader's eye, not the case, on a tombstone. */
export function text(envelope: Envelope): string {
  return envelope.body === null ? '(tombstone)' : new TextDecoder().decode(envelope.body)
}
