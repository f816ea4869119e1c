/**
 * Turns payloads into bytes and back. Both directions are synchronous and throw a `CodecError` that
 * names the path or position; nothing is changed silently on the way.
 */
export interface Codec {
  /** Media type written beside the bytes, for example `application/json`. */
  readonly contentType: string
  encode(payload: unknown): Uint8Array
  /** The bytes are a view that may be reused later: copy what is kept. */
  decode(bytes: Uint8Array): unknown
}
