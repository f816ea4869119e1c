import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { Balance, type Movable } from '../../../adapters/rabbitmq/balance.ts'
import type { Wire } from '../../../adapters/rabbitmq/wire.ts'
import { seededRandom } from '../../support/seeded-random.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'

const MINUTE_MS = 60_000
const wire = {} as Wire

/** One queue as the broker sees it: who is first gets the messages, who leaves comes back as the last. */
class Line {
  readonly members: number[]
  readonly isBusy: boolean

  constructor(members: readonly number[], isBusy: boolean) {
    this.members = [...members]
    this.isBusy = isBusy
  }

  leave(member: number): void {
    this.members.splice(this.members.indexOf(member), 1)
    this.members.push(member)
  }
}

/** So many receivers on so many queues, each with its own balance, in virtual time. */
class Fleet {
  readonly clock = new VirtualClock()
  readonly balances: Balance[]
  readonly lines: readonly Line[]
  hands = true
  moves = 0
  counted = 0
  readonly left: { readonly line: number; readonly atMs: number }[] = []
  /** What they count. */
  size: number

  constructor(lines: readonly Line[], size: number, seed = 1) {
    this.lines = lines
    this.size = size
    this.balances = Array.from({ length: size }, (_, member) => this.#balance(member, seed))
    for (const balance of this.balances) balance.attach(wire)
  }

  get shares(): readonly number[] {
    return this.balances.map(
      (_, member) => this.lines.filter(({ members }) => members[0] === member).length,
    )
  }

  stop(): void {
    for (const balance of this.balances) balance.stop()
  }

  #balance(member: number, seed: number): Balance {
    return new Balance({
      consumers: this.lines.map((line, index) => this.#consumer(member, line, index)),
      members: {
        attach: () => undefined,
        join: () => Promise.resolve(),
        leave: () => undefined,
        count: () => {
          this.counted++
          return Promise.resolve(this.size)
        },
      },
      clock: this.clock,
      random: seededRandom(seed * 100 + member),
      hands: () => this.hands,
    })
  }

  #consumer(member: number, line: Line, index: number): Movable {
    let isMarked = false
    let handed = 0
    const channel = {
      get isActive() {
        return isMarked || (line.isBusy && line.members[0] === member)
      },
      held: 0,
      get handed() {
        return line.isBusy ? ++handed : 0
      },
      becomeActive: () => void (isMarked = true),
    }
    const handOver = (): Promise<void> => {
      this.left.push({ line: index, atMs: this.clock.now() })
      this.moves++
      isMarked = false
      line.leave(member)
      return Promise.resolve()
    }
    return { channel, handOver }
  }
}

function lines(count: number, members: readonly number[], busy = count): readonly Line[] {
  return Array.from({ length: count }, (_, index) => new Line(members, index < busy))
}

const fleet = fc
  .record({ queues: fc.integer({ min: 2, max: 30 }), size: fc.integer({ min: 1, max: 7 }) })
  .chain(({ queues, size }) => {
    const members = Array.from({ length: size }, (_, member) => member)
    const order = fc.shuffledSubarray(members, { minLength: size })
    return fc.record({
      size: fc.constant(size),
      seed: fc.nat(1_000),
      orders: fc.array(order, { minLength: queues, maxLength: queues }),
    })
  })

describe('balance', () => {
  it('ends with nobody having more than its share, whatever the order of the lines', async () => {
    await fc.assert(
      fc.asyncProperty(fleet, async ({ size, seed, orders }) => {
        const one = new Fleet(
          orders.map((order) => new Line(order, true)),
          size,
          seed,
        )
        await one.clock.advance(20 * MINUTE_MS)
        const share = Math.ceil(orders.length / size)
        expect(Math.max(...one.shares)).toBeLessThanOrEqual(share)
        expect(one.moves).toBeLessThanOrEqual(orders.length * size)
        const { moves } = one
        await one.clock.advance(10 * MINUTE_MS)
        expect(one.moves, 'it does not end').toBe(moves)
        one.stop()
      }),
      { numRuns: 25 },
    )
  })

  it('spreads what one had alone within a few seconds for each', async () => {
    const one = new Fleet(lines(12, [0, 1, 2]), 3)
    await one.clock.advance(8 * 5_000 + 4 * 5_000)
    expect(one.shares).toEqual([4, 4, 4])
    expect(one.moves).toBe(12)
    one.stop()
  })

  it('asks nobody while it is first on one queue or none', async () => {
    const one = new Fleet(lines(12, [0, 1, 2], 1), 3)
    await one.clock.advance(5 * MINUTE_MS)
    expect([one.counted, one.moves]).toEqual([0, 0])
    one.stop()
  })

  it('asks once per look otherwise, at most every second', async () => {
    const one = new Fleet(lines(4, [0]), 1)
    await one.clock.advance(MINUTE_MS)
    expect(one.counted).toBeGreaterThanOrEqual(20)
    expect(one.counted).toBeLessThanOrEqual(60)
    expect(one.moves).toBe(0)
    one.stop()
  })

  it('moves busy and quiet queues in the proportion in which there are any', async () => {
    const busyLeft: number[] = []
    for (let seed = 1; seed <= 10; seed++) {
      const own = lines(40, [0, 1], 20)
      const one = new Fleet(own, 2, seed)
      // Whoever was alone once knows that it has all of them.
      one.size = 1
      await one.clock.advance(10_000)
      one.size = 2
      await one.clock.advance(5 * MINUTE_MS)
      expect(one.shares[0]).toBe(20)
      busyLeft.push(own.filter(({ isBusy, members }) => isBusy && members[0] === 0).length)
      one.stop()
    }
    const mean = busyLeft.reduce((sum, one) => sum + one) / busyLeft.length
    expect(mean).toBeGreaterThan(7)
    expect(mean).toBeLessThan(13)
  })

  it('leaves a queue alone for a minute that comes back at once', async () => {
    const one = new Fleet(lines(4, [0]), 1)
    one.size = 2
    await one.clock.advance(10 * MINUTE_MS)
    for (let line = 0; line < 4; line++) {
      const times = one.left.filter((it) => it.line === line).map(({ atMs }) => atMs)
      expect(times.length).toBeGreaterThan(5)
      for (const [n, atMs] of times.entries()) {
        if (n > 0) expect(atMs - times[n - 1]!).toBeGreaterThanOrEqual(MINUTE_MS)
      }
    }
    one.stop()
  })

  it('moves nothing while nothing is handed over', async () => {
    const one = new Fleet(lines(4, [0, 1]), 2)
    one.hands = false
    await one.clock.advance(5 * MINUTE_MS)
    expect([one.counted, one.moves]).toEqual([0, 0])
    one.hands = true
    await one.clock.advance(MINUTE_MS)
    expect(one.shares).toEqual([2, 2])
    one.stop()
  })

  it('leaves no timer behind', async () => {
    const one = new Fleet(lines(4, [0, 1]), 2)
    await one.clock.advance(MINUTE_MS)
    one.stop()
    await one.clock.settle()
    expect(one.clock.timers).toBe(0)
    const { moves, counted } = one
    for (const balance of one.balances) balance.attach(wire)
    await one.clock.advance(MINUTE_MS)
    expect([one.moves, one.counted]).toEqual([moves, counted])
  })
})
