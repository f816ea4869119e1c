import { afterEach, describe, expect, it } from 'vitest'

import { systemClock } from '../../../src/contract/clock.ts'
import { eventually } from '../../conformance/wait.ts'
import { ByteReader, ByteWriter } from '../kafka-bytes.ts'
import { client, FarEnd, type End } from './far-end.ts'
import { FrameReader } from './kafka-frames.ts'
import { KafkaProxy } from './kafka-proxy.ts'

const PRODUCE = 0
const HEARTBEAT = 12

const cleanUps: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).toReversed()) await cleanUp()
})

const soon = (what: () => string, condition: () => boolean): Promise<void> =>
  eventually(systemClock, 5_000, what, condition)

/** Both ends of one connection through a proxy, spoken for by hand. */
class Wire {
  readonly proxy: KafkaProxy
  readonly client: End
  readonly broker: End

  constructor(proxy: KafkaProxy, client: End, broker: End) {
    this.proxy = proxy
    this.client = client
    this.broker = broker
  }

  static async open(): Promise<Wire> {
    const far = await FarEnd.start()
    cleanUps.push(() => far.close())
    const proxy = await KafkaProxy.start({ target: () => ({ host: '127.0.0.1', port: far.port }) })
    cleanUps.push(() => proxy.close())
    const near = await client(proxy.port)
    cleanUps.push(() => near.socket.destroy())
    await soon(
      () => 'nobody came',
      () => far.ends.length === 1,
    )
    return new Wire(proxy, near, far.ends[0]!)
  }

  ask(...requests: readonly Buffer[]): void {
    this.client.socket.write(Buffer.concat(requests))
  }

  answer(...answers: readonly Buffer[]): void {
    this.broker.socket.write(Buffer.concat(answers))
  }

  /** Until exactly these correlation ids have come to that end, in that order. */
  async came(end: End, ...ids: readonly number[]): Promise<void> {
    await soon(
      () => `${idsOf(end).join(', ')} came, and not ${ids.join(', ')}`,
      () => JSON.stringify(idsOf(end)) === JSON.stringify(ids),
    )
  }
}

function framesOf(end: End): readonly Buffer[] {
  return new FrameReader().push(end.received)
}

/** Requests have theirs behind the api, answers in front. */
function idsOf(end: End): readonly number[] {
  return framesOf(end).map((frame) => frame.readInt32BE(frame.readInt16BE(4) === 9 ? 4 : 8) % 1000)
}

function framed(bytes: Buffer): Buffer {
  return new ByteWriter().int32(bytes.length).raw(bytes).bytes
}

/** A batch as far as the proxy looks: its count of records. */
function batch(count: number): Buffer {
  const bytes = Buffer.alloc(61)
  bytes.writeInt32BE(count, 57)
  return bytes
}

/** A request of version 7 that writes so many records to partition 0 of each topic. */
function produce(id: number, topics: Readonly<Record<string, number>>): Buffer {
  const writer = new ByteWriter().int16(PRODUCE).int16(7).int32(id).string('c')
  writer.int16(-1).int16(-1).int32(1_000).count(Object.keys(topics).length)
  for (const [topic, count] of Object.entries(topics)) {
    writer.string(topic).count(1).int32(0).int32(61).raw(batch(count))
  }
  return framed(writer.bytes)
}

/** The same in a flexible version, with a tagged field where one may be. */
function produceCompact(id: number, topic: string, count: number): Buffer {
  const tagged = Buffer.from([1, 99, 2, 7, 7])
  const writer = new ByteWriter().int16(PRODUCE).int16(9).int32(id).string('c').raw(tagged)
  writer.varint(0).int16(-1).int32(1_000).count(1, true).string(topic, true)
  writer.count(1, true).int32(0).varint(62).raw(batch(count)).raw(tagged).tags().tags()
  return framed(writer.bytes)
}

function produced(id: number, topics: readonly string[]): Buffer {
  const writer = new ByteWriter().int32(id).count(topics.length)
  for (const topic of topics) {
    writer.string(topic).count(1).int32(0).int16(0).int64(5n).int64(-1n).int64(0n)
  }
  return framed(writer.int32(0).bytes)
}

function heartbeat(id: number, group: string): Buffer {
  const writer = new ByteWriter().int16(HEARTBEAT).int16(3).int32(id).string('c')
  return framed(writer.string(group).int32(1).string('member').int16(-1).bytes)
}

/** Topic → error code and first offset. */
function errorsIn(frame: Buffer): Readonly<Record<string, readonly [number, bigint]>> {
  const reader = new ByteReader(frame, 8)
  const found: Record<string, readonly [number, bigint]> = {}
  reader.list(() => {
    const topic = reader.string() ?? ''
    reader.list(() => {
      reader.int32()
      found[topic] = [reader.int16(), reader.int64()]
      reader.skip(16)
    })
  })
  return found
}

/** A correlation id that no api's number can be taken for. */
const id = (n: number): number => 0x0009_0000 + n
const local = (n: number): number => id(n) % 1000

describe('the fault proxy and Kafka', () => {
  it('knows what a request writes, wherever the network cut it', async () => {
    const wire = await Wire.open()
    const seen: string[] = []
    wire.proxy.rule(
      ({ api, version, clientId, records, group }) => {
        seen.push(`${api} ${version} ${clientId} ${[...records].join(' ')} ${group}`)
        return false
      },
      { do: 'drop' },
    )
    const all = Buffer.concat([
      produce(id(1), { a: 3, b: 4 }),
      produceCompact(id(2), 'c', 5),
      heartbeat(id(3), 'g'),
    ])
    for (const byte of all) wire.ask(Buffer.from([byte]))
    await wire.came(wire.broker, local(1), local(2), local(3))
    expect(wire.broker.received).toEqual(all)
    expect(seen).toEqual(['Produce 7 c a,3 b,4 null', 'Produce 9 c c,5 null', 'Heartbeat 3 c  g'])
  })

  it('loses an answer, and no other', async () => {
    const wire = await Wire.open()
    const rule = wire.proxy.rule('Produce', { do: 'lose-answer' }, 1)
    wire.ask(produce(id(1), { a: 1 }), produce(id(2), { a: 1 }))
    await wire.came(wire.broker, local(1), local(2))
    wire.answer(produced(id(1), ['a']), produced(id(2), ['a']))
    await wire.came(wire.client, local(2))
    expect(rule.fired).toBe(1)
  })

  it('drops a request, and it is never answered', async () => {
    const wire = await Wire.open()
    const rule = wire.proxy.rule(({ records }) => records.has('a'), { do: 'drop' })
    wire.ask(produce(id(1), { a: 1 }), produce(id(2), { b: 1 }))
    await wire.came(wire.broker, local(2))
    expect(rule.fired).toBe(1)
  })

  it('holds an answer until it is healed, and lets others overtake', async () => {
    const wire = await Wire.open()
    const rule = wire.proxy.rule(({ records }) => records.has('a'), { do: 'hold-answer' })
    wire.ask(produce(id(1), { a: 1 }), produce(id(2), { b: 1 }))
    await wire.came(wire.broker, local(1), local(2))
    wire.answer(produced(id(1), ['a']), produced(id(2), ['b']))
    await wire.came(wire.client, local(2))
    rule.heal()
    await wire.came(wire.client, local(2), local(1))
  })

  it('delays a request and what follows it, and an answer and what follows it', async () => {
    const wire = await Wire.open()
    const before = performance.now()
    const rules = [
      wire.proxy.rule(({ records }) => records.has('a'), { do: 'delay', ms: 80 }, 1),
      wire.proxy.rule('Produce', { do: 'delay-answer', ms: 80 }, 1),
    ]
    wire.ask(produce(id(1), { a: 1 }), produce(id(2), { b: 1 }))
    await wire.came(wire.broker, local(1), local(2))
    wire.answer(produced(id(2), ['b']), produced(id(1), ['a']))
    await wire.came(wire.client, local(2), local(1))
    expect(performance.now() - before).toBeGreaterThan(150)
    expect(rules.map(({ fired }) => fired)).toEqual([1, 1])
  })

  it('resets before a request arrives, or in place of its answer', async () => {
    const first = await Wire.open()
    first.proxy.rule('Produce', { do: 'reset' })
    first.ask(produce(id(1), { a: 1 }))
    await soon(
      () => 'the connection did not end',
      () => first.client.ended === 'reset',
    )
    expect(first.broker.received).toHaveLength(0)
    const second = await Wire.open()
    second.proxy.rule('Produce', { do: 'reset-answer' })
    second.ask(produce(id(1), { a: 1 }))
    await second.came(second.broker, local(1))
    second.answer(produced(id(1), ['a']))
    await soon(
      () => 'the connection did not end',
      () => second.client.ended === 'reset',
    )
    expect(second.client.received).toHaveLength(0)
  })

  it('puts an error into an answer, for the topics it is about', async () => {
    const wire = await Wire.open()
    const topics = (topic: string): boolean => topic === 'b'
    wire.proxy.rule('Produce', { do: 'answer-error', code: 6, topics }, 1)
    wire.proxy.rule('Heartbeat', { do: 'answer-error', code: 25 })
    wire.ask(produce(id(1), { a: 1, b: 1 }), heartbeat(id(2), 'g'))
    await wire.came(wire.broker, local(1), local(2))
    const beat = framed(new ByteWriter().int32(id(2)).int32(0).int16(0).bytes)
    wire.answer(produced(id(1), ['a', 'b']), beat)
    await wire.came(wire.client, local(1), local(2))
    const [answer, beaten] = framesOf(wire.client)
    expect(errorsIn(answer!)).toEqual({ a: [0, 5n], b: [6, -1n] })
    expect(beaten!.readInt16BE(12)).toBe(25)
  })

  it('tells a client that speaks something else by a reset', async () => {
    const wire = await Wire.open()
    wire.ask(Buffer.from('GET / HTTP/1.1\r\n\r\n'))
    await soon(
      () => 'the connection did not end',
      () => wire.client.ended === 'reset',
    )
  })
})
