/** Where an envelope goes. `group` reaches one group only: retry, replay and unpark; `delayMs` 0 means now. */
export type Destination =
  | { readonly kind: 'topic'; readonly topic: string }
  | {
      readonly kind: 'group'
      readonly topic: string
      readonly group: string
      readonly delayMs: number
    }
  | { readonly kind: 'dead'; readonly topic: string; readonly group: string }
  | { readonly kind: 'reply'; readonly address: string }

/** A header's value as it is on the wire; `null` is a header without a value, never the same as an empty one. */
export type HeaderValue = string | Uint8Array | null

/** Headers in the order they were written, duplicates kept. */
export type Headers = readonly (readonly [name: string, value: HeaderValue])[]

/** Bytes and metadata: what adapters see. A message (typed, what users see) is sealed into one and opened from one. */
export interface Envelope {
  /** Identity for dedup; `null`: a foreign message that carries none. */
  readonly id: string | null
  /** CloudEvents `type`. */
  readonly type: string | null
  /** CloudEvents `source`. */
  readonly producer: string | null
  readonly to: Destination
  /** The key's bytes on the wire; decides the partition. */
  readonly key: Uint8Array | null
  /** Identity of the gate (publishing) and of the lane (consuming); `null`: unordered. */
  readonly orderKey: string | null
  /** `null` is a tombstone, never the same as empty. On a delivery it is a view, valid until settled. */
  readonly body: Uint8Array | null
  readonly headers: Headers
  readonly contentType: string | null
  /** Unix milliseconds at which the message was made. */
  readonly timeMs: number | null
  /** Unix milliseconds before which it must not be delivered; `null`: at once. */
  readonly deliverAtMs: number | null
  /** The adapter's own properties, used only when the envelope is sent on the same broker again. */
  readonly native?: unknown
}

/** No headers at all; shared, so that an envelope without headers costs no array. */
export const NO_HEADERS: Headers = Object.freeze([])

/** The last value of a header, or `undefined` when the envelope has none of that name. */
export function headerOf(headers: Headers, name: string): HeaderValue | undefined {
  for (let index = headers.length - 1; index >= 0; index--) {
    const header = headers[index]
    if (header !== undefined && header[0] === name) return header[1]
  }
  return undefined
}
