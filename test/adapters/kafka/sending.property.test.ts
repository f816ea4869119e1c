import assert from 'node:assert/strict'

import fc from 'fast-check'
import { describe, it } from 'vitest'

import type { Part, PartResult } from '../../../adapters/kafka/driver.ts'
import { HoldfastError } from '../../../src/contract/errors.ts'
import { refused, stored, tooLarge, unknown, type FakeFlight } from './fake-producers.ts'
import { SendingDesk } from './sending-desk.ts'

/** What becomes of a part: what is answered, and whether it is in the log. */
const fates = {
  stored: { answer: stored, isStored: true },
  'stored, answer lost': { answer: unknown, isStored: true },
  lost: { answer: unknown, isStored: false },
  refused: { answer: refused, isStored: false },
  'leader moved': { answer: () => refused({ stale: true }), isStored: false },
} as const
type Fate = keyof typeof fates

type Step =
  | { readonly send: readonly string[]; readonly withinMs: number }
  | { readonly answer: number; readonly fates: readonly Fate[]; readonly early: boolean }
  | { readonly leaders: readonly (number | null)[] }
  | { readonly isAway: boolean }
  | { readonly advanceMs: number }

const fate = fc.oneof(
  { weight: 3, arbitrary: fc.constant<Fate>('stored') },
  { weight: 2, arbitrary: fc.constantFrom(...(Object.keys(fates) as Fate[])) },
)
/** Keys 0 to 3 are their partitions; `!` is a message that no broker takes. */
const kind = fc.constantFrom('0', '0', '1', '2', '3', '-', '0!', '1!')

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      send: fc.array(kind, { minLength: 1, maxLength: 8 }),
      withinMs: fc.constantFrom(15, 200, 2_000, 30_000),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      answer: fc.nat({ max: 5 }),
      fates: fc.array(fate, { minLength: 4, maxLength: 4 }),
      early: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      leaders: fc.array(fc.constantFrom(1, 2, 3, null), { minLength: 4, maxLength: 4 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ isAway: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ advanceMs: fc.constantFrom(1, 30, 500, 4_000) }) },
)

/** Runs steps on a desk whose log is the truth. */
class Stage {
  readonly desk: SendingDesk
  readonly logs: Map<number, string[]> = new Map()
  readonly #calls: string[][] = []
  #sent = 0

  constructor(producersPerLeader: number, seed: number) {
    this.desk = new SendingDesk({ producersPerLeader }, seed)
    this.desk.topics.set('t', [1, 1, 2, 2], 700)
    this.desk.driver.onFlight = (flight) => {
      const { clock } = this.desk
      const cancel = clock.after(flight.deadline - clock.now(), () => {
        if (!flight.isSettled) flight.answer(unknown())
      })
      void flight.settled.then(cancel)
    }
  }

  async take(step: Step): Promise<void> {
    const { desk } = this
    if ('send' in step) {
      const bodies = step.send.map((kind) => `${kind}m${this.#sent++}`)
      this.#calls.push(bodies)
      desk.send(bodies, step.withinMs)
    } else if ('answer' in step) this.#answer(step)
    else if ('leaders' in step) {
      desk.topics.set('t', step.leaders, 700)
    } else if ('isAway' in step) {
      desk.topics.error = step.isAway ? new HoldfastError('connection-lost', 'away') : null
    } else await desk.clock.advance(step.advanceMs)
    await desk.clock.settle()
  }

  /** Answers everything that is still open, then closes. */
  async end(): Promise<void> {
    const { desk } = this
    const closed = desk.sender.close(desk.clock.now() + 60_000)
    for (const flight of desk.driver.open) this.#answerAll(flight, ['stored'], false)
    await desk.clock.advance(60_001)
    await closed
  }

  check(): void {
    const { desk } = this
    assert.deepEqual([...desk.breaches, ...desk.driver.breaches], [])
    const inLog = new Set([...this.logs.values()].flat())
    for (const body of this.#calls.flat()) {
      const outcome = desk.outcomes.get(body)
      assert.ok(outcome !== undefined, `${body} was not reported`)
      if (outcome.status === 'confirmed') assert.ok(inLog.has(body), `${body} is not in the log`)
      if (outcome.status === 'refused') assert.ok(!inLog.has(body), `${body} is in the log`)
    }
    for (const log of this.logs.values()) {
      const numbers = log.map((body) => Number(body.split('m')[1]))
      const inOrder = numbers.toSorted((one, other) => one - other)
      assert.deepEqual(numbers, [...new Set(inOrder)], 'order, and each once')
    }
    for (const call of this.#calls) this.#checkKeys(call)
    assert.ok(desk.driver.producers.every(({ isClosed }) => isClosed))
    assert.equal(desk.clock.timers, 0)
  }

  /** Behind one that did not end confirmed, none of its key did. */
  #checkKeys(call: readonly string[]): void {
    const failed = new Set<string>()
    for (const body of call) {
      const key = body[0] as string
      if (key === '-') continue
      const isConfirmed = this.desk.outcomes.get(body)?.status === 'confirmed'
      if (isConfirmed) assert.ok(!failed.has(key), `${body} was stored behind a failed one`)
      else failed.add(key)
    }
  }

  #answer({ answer, fates: chosen, early }: Extract<Step, { answer: number }>): void {
    const { open } = this.desk.driver
    const flight = open[answer % Math.max(1, open.length)]
    if (flight !== undefined) this.#answerAll(flight, chosen, early)
  }

  /** `early`: the first part is told, the others stay open. */
  #answerAll(flight: FakeFlight, chosen: readonly Fate[], early: boolean): void {
    const isPartial = early && flight.parts.length > 1
    for (const [index, part] of flight.parts.entries()) {
      if (isPartial && index > 0) return
      if (!flight.isTold(index)) flight.tell(index, this.#fateOf(part, chosen[index] ?? 'stored'))
    }
    flight.answer()
  }

  #fateOf({ partition, records }: Part, chosen: Fate): PartResult {
    const bodies = records.map(({ value }) => String(value))
    if (bodies.some((body) => body[1] === '!')) return tooLarge()
    const { answer, isStored } = fates[chosen]
    const log = this.logs.get(partition) ?? []
    if (isStored) this.logs.set(partition, [...log, ...bodies])
    return answer()
  }
}

describe('sending to Kafka, whatever the brokers answer', () => {
  it('reports each once, truly, and never stores a later one first', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 1, maxLength: 60 }),
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: 1, max: 1_000_000 }),
        async (steps, producers, seed) => {
          const stage = new Stage(producers, seed)
          for (const one of steps) await stage.take(one)
          await stage.end()
          stage.check()
        },
      ),
      { numRuns: 600 },
    )
  })
})
