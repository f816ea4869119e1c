import { partitionOf } from '../../src/contract/partition.ts'
import type { Partitioner } from './options.ts'

/**
 * The partition of a key by the option `partitioner`, the same on every client: 'java' is murmur2 as the
 * Java client has it and kafkajs since 2.0, 'legacy' is what kafkajs 1.x made of it.
 */
export function partitionerOf(option: 'java' | 'legacy' | Partitioner): Partitioner {
  if (option === 'java') return partitionOf
  return option === 'legacy' ? legacyPartition : option
}

function legacyPartition(key: Uint8Array, partitions: number): number {
  return (legacyHash(key) & 0x7fffffff) % partitions
}

const M = 0x5bd1e995

/**
 * murmur2 in floating point: products lose their low bits, a last word of less than four bytes counts
 * twice. Kept as it is, since keys were placed by it.
 */
function legacyHash(bytes: Uint8Array): number {
  const { length } = bytes
  const byte = (at: number): number => bytes[at] ?? 0
  let hash = 0x9747b28c ^ length
  for (let at = 0; at < length; at += 4) {
    let word = byte(at) + (byte(at + 1) << 8) + (byte(at + 2) << 16) + (byte(at + 3) << 24)
    word *= M
    word ^= word >>> 24
    word *= M
    hash *= M
    hash ^= word
  }
  const last = length & ~3
  if (length % 4 >= 3) hash ^= byte(last + 2) << 16
  if (length % 4 >= 2) hash ^= byte(last + 1) << 8
  if (length % 4 >= 1) {
    hash ^= byte(last)
    hash *= M
  }
  hash ^= hash >>> 13
  hash *= M
  return hash ^ (hash >>> 15)
}
