import { ReliableConsumer, ReliablePublisher, topic, type Topic } from 'holdfast'
import { memory } from 'holdfast/memory'

import type { Figure } from './figure.ts'
import { handWrittenLoop } from './hand-written-loop.ts'
import {
  type Contender,
  cpuPerMessage,
  interleaved,
  type Measured,
  median,
  pairedRatio,
  perSecond,
  type Prepared,
} from './measure.ts'
import { makeNotes, makeOrders } from './payload.ts'
import { signal } from './signal.ts'
import type { Suite } from './suite.ts'
import { withWorkers } from './workers.ts'

const MESSAGES = 100_000
const CONCURRENT = 256
const IN_MEMORY = 'none (memory broker)'

/** A payload with what may be its key. */
interface Keyed {
  readonly customer: string
}

const unordered = topic<Keyed>('orders')
const ordered = topic<Keyed>('orders', { key: ({ customer }) => customer })

type Handler = () => unknown

/** CPU per message of publishing and consuming on the memory broker, against a loop by hand. */
export const core: Suite = {
  name: 'core',
  run: async ({ rounds, warmUps, progress }) => {
    const figures: Figure[] = []
    for (const [payload, contenders] of cases()) {
      const told = (text: string): void => progress(`${payload}, ${text}`)
      const measured = await interleaved(contenders, { rounds, warmUps, progress: told })
      figures.push(...measured.flatMap((one) => figuresOf(payload, one, measured)))
    }
    return figures
  },
}

/**
 * Two payloads of 256 bytes: the flatter one is the harder case, since the loop's own cost is nearly
 * all encoding and everything else is added to less. Publishing comes first: to consume, 100 000
 * messages are published and kept, after which the engine makes all it publishes for a long life.
 */
function cases(): readonly (readonly [payload: string, contenders: readonly Contender[]])[] {
  const notes = makeNotes(MESSAGES)
  const orders = makeOrders(MESSAGES)
  return [
    ['flat', publishingOf(notes)],
    ['order', [...publishingOf(orders), publishing('publish, 1 000 keys', ordered, orders)]],
    ['flat', consumingOf(notes)],
    ['order', [...consumingOf(orders), keyedConsuming(orders)]],
  ]
}

function publishingOf(payloads: readonly Keyed[]): readonly Contender[] {
  return [handWrittenLoop(payloads, CONCURRENT), publishing('publish', unordered, payloads)]
}

function consumingOf(payloads: readonly Keyed[]): readonly Contender[] {
  return [
    { ...handWrittenLoop(payloads, CONCURRENT), name: 'hand-written loop beside it' },
    consuming('consume, sync handler', unordered, payloads, (handled) => () => handled()),
    consuming('consume, async handler', unordered, payloads, (handled) => async () => handled()),
  ]
}

function keyedConsuming(payloads: readonly Keyed[]): Contender {
  const name = 'consume, sync handler, 1 000 keys'
  return consuming(name, ordered, payloads, (handled) => () => handled())
}

function publishing(name: string, to: Topic<Keyed>, payloads: readonly Keyed[]): Contender {
  return {
    name,
    durability: IN_MEMORY,
    messages: payloads.length,
    prepare: async () => {
      // No group: the broker answers and keeps nothing, so that only publishing is on the bill.
      const topics = { orders: { groups: [] } }
      const publisher = new ReliablePublisher({ broker: memory(), topics })
      await publisher.open()
      return {
        run: () =>
          withWorkers(CONCURRENT, payloads.length, (at) => publisher.publish(to, payloads[at]!)),
        close: () => publisher.close({ timeoutMs: 10_000 }),
      }
    },
  }
}

function consuming(
  name: string,
  from: Topic<Keyed>,
  payloads: readonly Keyed[],
  handlerFor: (handled: () => void) => Handler,
): Contender {
  return {
    name,
    durability: IN_MEMORY,
    messages: payloads.length,
    prepare: () => prepareConsuming(from, payloads, handlerFor),
  }
}

async function prepareConsuming(
  from: Topic<Keyed>,
  payloads: readonly Keyed[],
  handlerFor: (handled: () => void) => Handler,
): Promise<Prepared> {
  const broker = memory()
  const topics = { orders: { groups: ['billing'] } }
  const publisher = new ReliablePublisher({ broker, topics })
  await withWorkers(CONCURRENT, payloads.length, (at) => publisher.publish(from, payloads[at]!))
  const handled = signal(payloads.length)
  const consumer = new ReliableConsumer({
    broker,
    topic: from,
    group: 'billing',
    from: 'earliest',
    concurrency: CONCURRENT,
    topics,
    handler: handlerFor(handled.count),
  })
  return {
    run: async () => {
      await consumer.start()
      await handled.reached
    },
    close: async () => {
      await consumer.drain({ timeoutMs: 10_000 })
      await publisher.close({ timeoutMs: 10_000 })
    },
  }
}

/** Most CPU per message against the loop; absolute figures depend on the machine and have no target. */
const mostTimesTheLoop: Readonly<Record<string, number>> = {
  publish: 1.5,
  'consume, sync handler': 2,
}

function figuresOf(payload: string, one: Measured, [loop]: readonly Measured[]): readonly Figure[] {
  const { durability, samples } = one
  const name = `${one.name} (${payload})`
  const atMost = mostTimesTheLoop[one.name]
  const common = { suite: 'core', durability }
  const ratio: Figure = {
    ...common,
    name: `${name}: CPU`,
    value: loop === undefined ? Number.NaN : pairedRatio(one, loop, cpuPerMessage),
    unit: '× loop',
    ...(atMost === undefined ? {} : { target: { atMost } }),
  }
  const absolute: readonly Figure[] = [
    { ...common, name: `${name}: CPU`, value: median(samples.map(cpuPerMessage)), unit: 'µs/msg' },
    { ...common, name: `${name}: rate`, value: median(samples.map(perSecond)), unit: 'msg/s' },
  ]
  return one === loop ? absolute : [ratio, ...absolute]
}
