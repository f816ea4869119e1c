import { isUtf8 } from 'node:buffer'

import type { Headers } from '../../src/contract/message.ts'

/**
 * Says which of a message's headers are bytes although they could be read as text: their places among the
 * envelope's own headers. On the wire all values are bytes.
 */
export const BYTES = 'holdfast-bytes'

/** The value of that header; `null`: none of them would be taken for text. */
export function byteMark(headers: Headers): string | null {
  let mark: string | null = null
  for (let place = 0; place < headers.length; place++) {
    const value = headers[place]?.[1]
    if (!(value instanceof Uint8Array) || !isUtf8(value)) continue
    mark = mark === null ? String(place) : `${mark},${place}`
  }
  return mark
}

/** The places that a mark names; what is none names nothing. */
export function byteMarked(mark: string): ReadonlySet<number> {
  return new Set(/^[0-9,]{1,10000}$/.test(mark) ? mark.split(',').map(Number) : [])
}
