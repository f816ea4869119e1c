import assert from 'node:assert/strict'

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { decodeProgress } from '../../../adapters/kafka/offset-metadata.ts'
import { OffsetTracker, Tracked } from '../../../adapters/kafka/offsets.ts'

class Item extends Tracked {
  readonly offset: bigint

  constructor(offset: bigint) {
    super()
    this.offset = offset
  }
}

/** Takes one after the other and returns them. */
function taken(tracker: OffsetTracker<Item>, ...offsets: bigint[]): Item[] {
  return offsets.map((offset) => {
    const item = new Item(offset)
    assert.ok(tracker.take(item, tracker.placeOf(offset)))
    return item
  })
}

/** The log of one partition, the group's committed offset in it, and whoever has the partition. */
class Model {
  /** Ascending, with holes that no record ever fills. */
  readonly log: bigint[]
  readonly end: bigint
  readonly acked = new Set<bigint>()
  committed: bigint
  metadata: string | null = null
  tracker: OffsetTracker<Item>
  /** Where reading goes on. */
  position: bigint
  handed = new Map<bigint, Item>()
  /** What the broker knew to be done when the present owner took over. */
  #wasDone: (offset: bigint) => boolean = () => false

  constructor(start: bigint, gaps: readonly number[]) {
    let offset = start
    this.log = gaps.map((gap) => (offset += BigInt(gap) + 1n) - 1n)
    this.end = offset + 2n
    this.committed = start
    this.position = start
    this.tracker = new OffsetTracker<Item>(start)
  }

  /** Reads on: `count` records, and to the end of the batch, which may be behind its last record. */
  read(count: number): void {
    const batch = this.log.filter((offset) => offset >= this.position).slice(0, count)
    for (const offset of batch) this.#hand(offset)
    const after = this.log.find((offset) => offset > (batch.at(-1) ?? this.position))
    this.position = after ?? this.end
    this.tracker.pass(this.tracker.placeOf(this.position))
  }

  /** The client begins again at the committed offset, as after a rejoin, while everything is kept. */
  rejoin(): void {
    const again = this.log.filter((offset) => offset >= this.committed && offset < this.position)
    for (const offset of again) {
      const place = this.tracker.placeOf(offset)
      assert.ok(!this.tracker.take(new Item(offset), place), `offset ${offset} twice`)
    }
  }

  ack(which: number): void {
    const item = this.#pick(which)
    if (item === undefined) return
    this.tracker.done(item)
    this.handed.delete(item.offset)
    this.acked.add(item.offset)
  }

  /** Given back unsettled, and handed out again by the same owner. */
  release(which: number): void {
    const item = this.#pick(which)
    if (item === undefined) return
    const again = new Item(item.offset)
    this.tracker.replace(item, again)
    this.handed.set(item.offset, again)
  }

  commit(): void {
    const { offset, text } = this.tracker.encoded(this.tracker.end)
    assert.ok(offset >= this.committed, `${offset} after ${this.committed}`)
    assert.equal(offset, this.tracker.next)
    this.committed = offset
    this.metadata = text
    const remembered = this.remembered()
    for (const one of this.log) {
      if (remembered(one)) assert.ok(this.acked.has(one), `offset ${one} is not done`)
    }
  }

  /** The owner dies, and the next one knows what was committed. */
  takeOver(): void {
    this.tracker = new OffsetTracker<Item>(
      this.committed,
      decodeProgress(this.committed, this.metadata),
    )
    this.position = this.committed
    this.handed = new Map()
    this.#wasDone = this.remembered()
  }

  /** Which offsets the broker knows to be done. */
  remembered(): (offset: bigint) => boolean {
    const progress = decodeProgress(this.committed, this.metadata)
    return (offset) => {
      if (offset < this.committed) return true
      const place = Number(offset - this.committed)
      return progress !== null && place < progress.doneTo && !progress.open.includes(place)
    }
  }

  #hand(offset: bigint): void {
    const place = this.tracker.placeOf(offset)
    const wasDone = this.tracker.wasDone(place)
    assert.equal(wasDone, this.#wasDone(offset), `offset ${offset}`)
    if (wasDone) return
    const item = new Item(offset)
    assert.ok(!this.handed.has(offset))
    assert.ok(this.tracker.take(item, place))
    this.handed.set(offset, item)
  }

  #pick(which: number): Item | undefined {
    const items = [...this.handed.values()]
    return items[which % Math.max(1, items.length)]
  }
}

const steps = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: fc.record({ do: fc.constant('read' as const), n: fc.nat(40) }) },
    { weight: 12, arbitrary: fc.record({ do: fc.constant('ack' as const), n: fc.nat(1_000) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('release' as const), n: fc.nat(1_000) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('commit' as const), n: fc.constant(0) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('rejoin' as const), n: fc.constant(0) }) },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constant('takeOver' as const), n: fc.constant(0) }),
    },
  ),
  { maxLength: 300 },
)

const starts = fc.oneof(fc.constant(0n), fc.bigInt({ min: 0n, max: 2n ** 62n }))

describe('an offset tracker, however settles, commits and owners come', () => {
  it('never calls done what is not, never hands out twice, and loses nothing', () => {
    fc.assert(
      fc.property(starts, fc.array(fc.nat(3), { maxLength: 200 }), steps, (start, gaps, all) => {
        const model = new Model(start, gaps)
        for (const step of all) {
          if (step.do === 'read') model.read(step.n + 1)
          else if (step.do === 'ack') model.ack(step.n)
          else if (step.do === 'release') model.release(step.n)
          else if (step.do === 'commit') model.commit()
          else if (step.do === 'rejoin') model.rejoin()
          else model.takeOver()
        }
        // Everything that is left comes, is settled, and moves the offset to the very end.
        while (model.position < model.end) model.read(50)
        while (model.handed.size > 0) model.ack(0)
        model.commit()
        expect(model.committed).toBe(model.end)
        expect([...model.acked].length).toBe(model.log.length)
      }),
      { numRuns: 300 },
    )
  })
})

describe('OffsetTracker', () => {
  it('commits behind what is done without a gap, however far others are', () => {
    const tracker = new OffsetTracker<Item>(10n)
    const [a, b, c] = taken(tracker, 10n, 11n, 12n)
    tracker.done(c!)
    tracker.done(b!)
    expect(tracker.next).toBe(10n)
    tracker.done(a!)
    expect(tracker.next).toBe(13n)
  })

  it('does not wait for offsets that no record has', () => {
    const tracker = new OffsetTracker<Item>(0n)
    const [a, b] = taken(tracker, 3n, 90n)
    expect(tracker.next).toBe(3n)
    tracker.done(a!)
    expect(tracker.next).toBe(90n)
    tracker.done(b!)
    tracker.pass(95)
    expect(tracker.next).toBe(95n)
  })

  it('goes past batches in which nothing was left to hand out', () => {
    const tracker = new OffsetTracker<Item>(7n)
    tracker.pass(1)
    expect(tracker.next).toBe(8n)
    tracker.pass(0)
    expect(tracker.next).toBe(8n)
  })

  it('counts exactly where doubles do not', () => {
    const start = 2n ** 60n + 1n
    const tracker = new OffsetTracker<Item>(start)
    const [a] = taken(tracker, start, start + 1n)
    tracker.done(a!)
    expect(tracker.next).toBe(start + 1n)
    expect(tracker.encoded(2).offset).toBe(start + 1n)
  })

  it('hands nothing out that it handed out before', () => {
    const tracker = new OffsetTracker<Item>(0n)
    const [a] = taken(tracker, 0n, 1n, 2n)
    tracker.done(a!)
    for (const place of [0, 1, 2]) {
      expect(tracker.take(new Item(BigInt(place)), place)).toBe(false)
    }
    expect(tracker.size).toBe(2)
  })

  it('keeps what the owner before knew until it is passed', () => {
    const known = { handedTo: 9, doneTo: 9, open: [0, 4] }
    const tracker = new OffsetTracker<Item>(100n, known)
    const { offset, progress } = tracker.snapshot(0)
    expect({ offset, ...progress }).toEqual({ offset: 100n, handedTo: 0, doneTo: 9, open: [0, 4] })
    const [first] = taken(tracker, 100n)
    tracker.done(first!)
    expect(tracker.next).toBe(104n)
    expect(tracker.snapshot(0).progress).toMatchObject({ doneTo: 5, open: [0] })
    const skipped = [1, 2, 3, 4, 5, 8, 9].filter((place) => tracker.wasDone(place))
    expect(skipped).toEqual([1, 2, 3, 5, 8])
    const [stuck] = taken(tracker, 104n)
    tracker.pass(9)
    tracker.done(stuck!)
    expect(tracker.next).toBe(109n)
  })

  it('says of one stuck among thousands that it alone is open', () => {
    const tracker = new OffsetTracker<Item>(0n)
    const items = taken(tracker, ...Array.from({ length: 5_001 }, (_, at) => BigInt(at)))
    for (const item of items) if (item.offset !== 5n) tracker.done(item)
    const { offset, text } = tracker.encoded(6_000)
    expect(offset).toBe(5n)
    expect(decodeProgress(5n, text)).toEqual({ handedTo: 5_995, doneTo: 4_996, open: [0] })
    const next = new OffsetTracker<Item>(5n, decodeProgress(5n, text))
    const again = Array.from({ length: 5_000 }, (_, place) => place).filter(
      (place) => !next.wasDone(place),
    )
    expect(again).toEqual([0, 4_996, 4_997, 4_998, 4_999])
  })
})
