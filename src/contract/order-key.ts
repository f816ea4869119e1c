import { isUtf8 } from 'node:buffer'

import type { Ordering } from './capabilities.ts'

/**
 * The lane identity of a received message: its key when the key orders, its source when the
 * partition orders, else none. Keys that are not UTF-8 get a spelling that no UTF-8 key can have.
 */
export function orderKeyOf(
  ordering: Ordering,
  key: Uint8Array | null,
  source: string,
): string | null {
  if (ordering === 'partition') return source
  if (ordering === 'none' || key === null) return null
  if (key.length === 0) return ''
  const bytes = Buffer.isBuffer(key) ? key : Buffer.from(key.buffer, key.byteOffset, key.byteLength)
  return isUtf8(bytes) ? bytes.toString('utf8') : `\u0000bytes:${bytes.toString('hex')}`
}
