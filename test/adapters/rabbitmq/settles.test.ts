import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { RabbitmqDelivery, type Settling } from '../../../adapters/rabbitmq/delivery.ts'
import { Settles, type SettleWriter } from '../../../adapters/rabbitmq/settles.ts'
import { NO_HEADERS } from '../../../src/contract/message.ts'
import { systemClock } from '../../../src/contract/clock.ts'

/** A channel as the broker sees it: knows what it handed out, and treats an unknown tag as an error. */
class Broker implements SettleWriter {
  readonly open = new Set<number>()
  readonly acked: number[] = []
  readonly nacked: number[] = []
  readonly rejected: number[] = []
  readonly frames: string[] = []
  isClosed = false

  ack(tag: number, multiple: boolean): void {
    this.#frame(`ack ${tag}${multiple ? ' and below' : ''}`)
    const tags = multiple ? [...this.open].filter((one) => one <= tag) : [tag]
    if (!this.open.has(tag)) throw new Error(`406 unknown delivery tag ${tag}`)
    for (const one of tags) this.#settle(one, this.acked)
  }

  nack(tag: number): void {
    this.#frame(`nack ${tag}`)
    this.#settle(tag, this.nacked)
  }

  reject(tag: number): void {
    this.#frame(`reject ${tag}`)
    this.#settle(tag, this.rejected)
  }

  #frame(text: string): void {
    if (this.isClosed) throw new Error('Channel closed')
    this.frames.push(text)
  }

  #settle(tag: number, into: number[]): void {
    if (!this.open.delete(tag)) throw new Error(`406 unknown delivery tag ${tag}`)
    into.push(tag)
  }
}

/** Deliveries of a channel with that many messages, from the first tag on; some may never come. */
function stage(
  count: number,
  missing: readonly number[] = [],
): {
  broker: Broker
  settles: Settles
  settle: (tag: number, how: Settling) => void
} {
  const broker = new Broker()
  const settles = new Settles(broker, systemClock)
  const source = { name: 'q', epoch: 1 }
  const settler = {
    settle: (delivery: RabbitmqDelivery, how: Settling) => {
      if (delivery.state !== 'held') return
      delivery.state = how
      settles.add(delivery)
    },
  }
  const deliveries = Array.from({ length: count }, (_, index) => {
    broker.open.add(index + 1)
    const delivery = new RabbitmqDelivery(settler, source, {
      envelope: envelope(),
      ...{ tag: index + 1, bytes: 1, attempt: 1, redelivered: 'no' },
    })
    if (!missing.includes(index + 1)) settles.hold(delivery)
    return delivery
  })
  return { broker, settles, settle: (tag, how) => settler.settle(deliveries[tag - 1]!, how) }
}

function envelope(): RabbitmqDelivery['envelope'] {
  return {
    ...{ id: null, type: null, producer: null, to: { kind: 'topic', topic: 't' } },
    ...{ key: null, orderKey: null, body: null, headers: NO_HEADERS, contentType: null },
    ...{ timeMs: null, deliverAtMs: null },
  }
}

const how = fc.constantFrom<Settling>('ack', 'ack', 'ack', 'release', 'retry')
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ tag: fc.integer({ min: 1, max: 40 }), how }) },
  { weight: 1, arbitrary: fc.constant('write' as const) },
)

describe('settles', () => {
  it('settles exactly what was settled, each once and in its way, in any order', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const { broker, settles, settle } = stage(40)
        const expected = new Map<number, Settling>()
        for (const one of steps) {
          if (one === 'write') settles.write()
          else {
            if (!expected.has(one.tag)) expected.set(one.tag, one.how)
            settle(one.tag, one.how)
          }
        }
        settles.write()
        const of = (wanted: Settling): number[] =>
          [...expected].filter(([, way]) => way === wanted).map(([tag]) => tag)
        expect(broker.acked.toSorted(ascending)).toEqual(of('ack').toSorted(ascending))
        expect(broker.nacked.toSorted(ascending)).toEqual(of('release').toSorted(ascending))
        expect(broker.rejected.toSorted(ascending)).toEqual(of('retry').toSorted(ascending))
        expect(broker.open.size).toBe(40 - expected.size)
        expect(settles.held).toBe(40 - expected.size)
      }),
      { numRuns: 500 },
    )
  })

  it('acknowledges a run without gaps in one frame', () => {
    const { broker, settles, settle } = stage(100)
    for (let tag = 100; tag >= 1; tag--) settle(tag, 'ack')
    settles.write()
    expect(broker.frames).toEqual(['ack 100 and below'])
  })

  it('never lets a frame for many settle one that is held', () => {
    const { broker, settles, settle } = stage(5)
    for (const tag of [1, 2, 4, 5]) settle(tag, 'ack')
    settles.write()
    expect(broker.frames).toEqual(['ack 2 and below', 'ack 4', 'ack 5'])
    expect([...broker.open]).toEqual([3])
    settle(3, 'release')
    settles.write()
    expect(broker.nacked).toEqual([3])
  })

  it('never lets a frame for many settle one that never came', () => {
    const { broker, settles, settle } = stage(5, [3])
    for (const tag of [1, 2, 4, 5]) settle(tag, 'ack')
    settles.write()
    expect([...broker.open]).toEqual([3])
  })

  it('gives back before it acknowledges what came after', () => {
    const { broker, settles, settle } = stage(3)
    settle(2, 'ack')
    settle(3, 'ack')
    settle(1, 'release')
    settles.write()
    expect(broker.frames).toEqual(['nack 1', 'ack 3 and below'])
    expect(broker.acked).toEqual([2, 3])
  })

  it('writes by itself within a turn of the event loop', async () => {
    const { broker, settle } = stage(2)
    settle(1, 'ack')
    expect(broker.frames).toEqual([])
    await new Promise<void>((resolve) => systemClock.defer(resolve))
    expect(broker.acked).toEqual([1])
  })

  it('counts what may not be at the broker until a round trip says so', () => {
    const { settles, settle } = stage(4)
    settle(1, 'ack')
    settle(2, 'release')
    expect(settles.unconfirmed).toBe(2)
    settles.write()
    expect(settles.unconfirmed).toBe(2)
    const { mark } = settles
    settle(3, 'ack')
    settles.confirm(mark)
    expect(settles.unconfirmed).toBe(1)
  })

  it('keeps count when the channel ends in the middle of writing', () => {
    const { broker, settles, settle } = stage(4)
    for (const tag of [2, 3]) settle(tag, 'ack')
    broker.isClosed = true
    settles.write()
    expect(settles.unconfirmed).toBe(2)
    expect(settles.abandon().map(({ tag }) => tag)).toEqual([1, 4])
    broker.isClosed = false
    settles.write()
    expect(broker.frames).toEqual([])
  })
})

function ascending(one: number, other: number): number {
  return one - other
}
