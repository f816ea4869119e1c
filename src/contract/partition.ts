/**
 * The 32-bit murmur2 hash that Kafka's Java client partitions by, as an unsigned number. Fixed for
 * ever: partitions, buckets and stored hashes depend on it.
 */
export function murmur2(bytes: Uint8Array): number {
  const m = 0x5bd1e995
  const length = bytes.length
  let hash = 0x9747b28c ^ length
  let at = 0
  for (; at + 4 <= length; at += 4) {
    let k =
      (bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)
    k = Math.imul(k, m)
    k = Math.imul(k ^ (k >>> 24), m)
    hash = Math.imul(hash, m) ^ k
  }
  const left = length - at
  if (left >= 3) hash ^= (bytes[at + 2] as number) << 16
  if (left >= 2) hash ^= (bytes[at + 1] as number) << 8
  if (left >= 1) hash = Math.imul(hash ^ (bytes[at] as number), m)
  hash = Math.imul(hash ^ (hash >>> 13), m)
  return (hash ^ (hash >>> 15)) >>> 0
}

/** The partition of a key, as Kafka's Java client chooses it: sign bit dropped, modulo the count. */
export function partitionOf(key: Uint8Array, partitions: number): number {
  return (murmur2(key) & 0x7fffffff) % partitions
}

/** Hash of a text, for buckets and key hashes. */
export function textHash(text: string): number {
  return murmur2(Buffer.from(text, 'utf8'))
}
