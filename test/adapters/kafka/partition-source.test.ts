import { describe, expect, it } from 'vitest'

import { decodeProgress } from '../../../adapters/kafka/offset-metadata.ts'
import { PartitionSource, type PartitionShare } from '../../../adapters/kafka/partition-source.ts'
import { Room } from '../../../adapters/kafka/room.ts'
import type { FetchedRecord } from '../../../adapters/kafka/driver.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'

function recordsAt(from: number, count: number): FetchedRecord[] {
  return Array.from({ length: count }, (_, n) => ({
    offset: BigInt(from + n),
    key: null,
    value: Buffer.from('x'),
    headers: [],
    timestampMs: 0,
  }))
}

/** A partition that is read and may hand everything out. */
function openSource(given: Partial<PartitionShare> = {}): PartitionSource {
  const share: PartitionShare = {
    clock: new VirtualClock(),
    room: new Room({ messages: 1_000_000, bytes: 1_000_000_000 }, () => undefined),
    to: { kind: 'topic', topic: 'orders' },
    ordering: 'none',
    touched: () => undefined,
    ready: () => undefined,
    drained: () => undefined,
    stale: () => undefined,
    ...given,
  }
  const source = new PartitionSource(share, { topic: 'orders', partition: 0 }, 1, null)
  source.begin(0n, null)
  commit(source)
  return source
}

function commit(source: PartitionSource): void {
  const pending = source.pending(false, true)
  if (pending !== null) source.saved(pending)
}

describe('a partition', () => {
  it('does not commit less than what it knows to be committed', () => {
    const source = openSource()
    source.received(recordsAt(0, 10), 10n, 10n)
    const [first] = source.next(10)
    first!.ack()
    source.saved({ ...source.pending(false, true)!, offset: 5n })
    expect(source.pending(false, true)).toBeNull()
  })

  it('says that it is full at three quarters of the room for holes, and hands out again at half', () => {
    const told: string[] = []
    const source = openSource({ ready: () => void told.push('ready') })
    const count = 40_000
    source.received(recordsAt(0, count + 10), BigInt(count + 10), 0n)
    const all = []
    while (all.length < count) {
      all.push(...source.next(1_000))
      commit(source)
    }
    // Every other one is done: a hole costs one and a half bits at least.
    for (let at = 1; at < 26_000; at += 2) all[at]!.ack()
    commit(source)
    expect(source.next(10)).toEqual([])
    for (let at = 0; at < 14_000; at += 2) all[at]!.ack()
    commit(source)
    expect(source.next(10)).toHaveLength(10)
    expect(told.at(-1)).toBe('ready')
  })

  it('says how many settles did not fit', () => {
    const source = openSource()
    source.received(recordsAt(0, 90_000), 90_000n, 0n)
    const all = []
    while (all.length < 90_000) {
      all.push(...source.next(5_000))
      commit(source)
    }
    for (let at = 1; at < 90_000; at += 2) all[at]!.ack()
    const pending = source.pending(false, true)!
    expect(pending.metadata!.length).toBeLessThanOrEqual(4_096)
    source.saved(pending)
    const known = decodeProgress(0n, pending.metadata)!
    const told = known.doneTo - known.open.length
    expect(source.unsaved).toBe(45_000 - told)
    expect(source.hasTold(45_000)).toBe(true)
  })
})
