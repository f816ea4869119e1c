import type { ConsumeMessage } from 'amqplib'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { incoming } from '../../../adapters/rabbitmq/incoming.ts'
import { outgoing, type Outgoing } from '../../../adapters/rabbitmq/outgoing.ts'
import { TopicTable } from '../../../adapters/rabbitmq/topics.ts'
import { systemClock, systemRandom } from '../../../src/contract/clock.ts'
import type { Destination, Envelope } from '../../../src/contract/message.ts'
import { timeOf, timeText } from '../../../src/contract/time-text.ts'
import { sharedNode } from '../../brokers/shared-node.ts'
import { envelope, SendingStage } from './sending-stage.ts'

const to: Destination = { kind: 'topic', topic: 'orders' }
const topics = new TopicTable({ prefix: '', map: new Map() }, systemClock, systemRandom)

/** A message as somebody who knows nothing of holdfast publishes it. */
function foreign(properties: object, content = 'x'): Envelope {
  const all = { headers: {}, ...properties } as ConsumeMessage['properties']
  return incoming({ properties: all, content: Buffer.from(content) }, to, 'key', 'q')
}

const headersOf = (message: Outgoing): Record<string, unknown> => message.options.headers

describe('a message on its way to the broker', () => {
  it('is persistent and mandatory, and a CloudEvent that any client can read', () => {
    const message = outgoing(
      envelope('orders', 'o-1', {
        type: 'orders.made',
        producer: '/shop',
        key: Buffer.from('c-9'),
        timeMs: 1_700_000_000_123,
        contentType: 'application/json',
        headers: [['traceparent', '00-ab']],
      }),
      topics,
    )
    expect([message.exchange, message.routingKey, message.mandatory]).toEqual([
      'orders',
      'c-9',
      true,
    ])
    expect(message.options).toMatchObject({
      deliveryMode: 2,
      persistent: true,
      mandatory: true,
      messageId: 'o-1',
      contentType: 'application/json',
    })
    expect(headersOf(message)).toEqual({
      cloudEvents_specversion: '1.0',
      cloudEvents_id: 'o-1',
      cloudEvents_type: 'orders.made',
      cloudEvents_source: '/shop',
      cloudEvents_time: '2023-11-14T22:13:20.123Z',
      cloudEvents_partitionkey: 'c-9',
      traceparent: '00-ab',
    })
  })

  it('goes to one group by its queue, to a delay level by its exchange, to the dead letters', () => {
    const plan = topics.declare({
      ...{ name: 'orders', groups: ['a'], retryLevelsMs: [1_000, 5_000] },
      ...{ partitions: null, ordering: 'none' },
    })
    const address = (destination: Destination): [string, string] => {
      const { exchange, routingKey } = outgoing(envelope('', 'x', { to: destination }), topics)
      return [exchange, routingKey]
    }
    const topic = plan.topic
    expect(address({ kind: 'group', topic, group: 'a', delayMs: 0 })).toEqual(['', 'orders.a'])
    expect(address({ kind: 'group', topic, group: 'a', delayMs: 1_500 })).toEqual([
      'orders.a.retry.5000',
      'orders.a',
    ])
    expect(address({ kind: 'dead', topic, group: 'a' })).toEqual(['', 'orders.a.dead'])
  })

  it('carries no order to the broker that came as a header', () => {
    const message = outgoing(
      envelope('orders', 'x', {
        headers: [
          ['CC', 'other'],
          ['x-death', 'y'],
          ['plain', 'z'],
        ],
      }),
      topics,
    )
    expect(Object.keys(headersOf(message)).filter((name) => /^CC|^x-/.test(name))).toEqual([])
    expect(headersOf(message)['plain']).toBe('z')
  })

  it('leaves out what is too long for a property: the attribute has it', () => {
    const id = 'ä'.repeat(200)
    const message = outgoing(envelope('orders', id), topics)
    expect(message.options.messageId).toBeUndefined()
    expect(headersOf(message)['cloudEvents_id']).toBe(id)
  })
})

describe('a message that comes again on the same broker', () => {
  it('keeps its properties, but nothing the broker wrote about its earlier life', () => {
    const received = foreign({
      headers: {
        'x-death': [{ count: 3 }],
        'x-first-death-queue': 'q',
        'x-last-death-reason': 'expired',
        'x-delivery-count': 4,
        'x-acquired-count': 5,
        CC: ['elsewhere'],
        BCC: ['hidden'],
        retries: 7,
        nested: { deep: true },
      },
      priority: 3,
      correlationId: 'c',
      replyTo: 'r',
      appId: 'app',
      type: 'legacy',
      contentEncoding: 'gzip',
      expiration: '1000',
      userId: 'guest',
      messageId: 'm',
    })
    expect(received.headers).toEqual([
      ['nested', '{"deep":true}'],
      ['retries', '7'],
    ])
    const { options } = outgoing(
      { ...received, headers: [...received.headers, ['holdfast-attempt', '1']] },
      topics,
    )
    expect(options).toMatchObject({
      ...{ priority: 3, correlationId: 'c', replyTo: 'r', appId: 'app', type: 'legacy' },
      ...{ contentEncoding: 'gzip', messageId: 'm' },
    })
    expect(options).not.toHaveProperty('expiration')
    expect(options).not.toHaveProperty('userId')
    const written = Object.entries(options.headers).filter(([, value]) => value !== undefined)
    expect(Object.fromEntries(written)).toEqual({
      cloudEvents_id: 'm',
      retries: 7,
      nested: { deep: true },
      'holdfast-attempt': '1',
      'holdfast-order': '1,2,0',
    })
  })
})

describe('a message of somebody else', () => {
  it('is known by its CloudEvents id under both spellings, else by its message id, else not', () => {
    expect(foreign({ messageId: 'm', headers: { cloudEvents_id: 'e' } }).id).toBe('e')
    expect(foreign({ messageId: 'm', headers: { 'cloudEvents:id': 'e' } }).id).toBe('e')
    expect(foreign({ messageId: 'm' }).id).toBe('m')
    expect(foreign({}).id).toBeNull()
    expect(foreign({ headers: undefined }).id).toBeNull()
  })

  it('has AMQP’s own timestamp, in seconds, where it has no other', () => {
    expect(foreign({ timestamp: 1_700_000_000 }).timeMs).toBe(1_700_000_000_000)
    const headers = { cloudEvents_time: '2023-11-14T23:13:20.5+01:00' }
    expect(foreign({ timestamp: 5, headers }).timeMs).toBe(1_700_000_000_500)
    expect(foreign({ headers: { cloudEvents_time: 'yesterday' } }).timeMs).toBeNull()
  })

  it('is never broken by headers that look like ours', () => {
    const odd = foreign({ headers: { 'holdfast-headers': '{"not":"a list"}', plain: 'x' } })
    expect(odd.headers).toEqual([['plain', 'x']])
    expect(foreign({ headers: { 'holdfast-tombstone': '1' } }, 'a body').body).not.toBeNull()
  })
})

describe('times as text', () => {
  it('are the ones that Date writes, and are read back', () => {
    const ms = fc.integer({ min: -62_135_596_800_000, max: 253_402_300_799_999 })
    fc.assert(
      fc.property(ms, (one) => {
        expect(timeText(one)).toBe(new Date(one).toISOString())
        expect(timeOf(timeText(one))).toBe(one)
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('the way through a real broker', () => {
  let stage: SendingStage
  let topic: string

  beforeAll(async () => {
    stage = await SendingStage.on(sharedNode())
    topic = await stage.topic()
  })
  afterAll(() => stage?.end())

  const text = fc.oneof(
    fc.string({ unit: 'grapheme', maxLength: 20 }),
    fc.constantFrom('', 'CC', 'x'),
  )
  const name = fc.oneof(
    fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 }),
    fc.constantFrom(
      'CC',
      'x-death',
      '__proto__',
      'constructor',
      '7',
      'cloudEvents_id',
      'holdfast-attempt',
    ),
  )
  const bytes = fc.uint8Array({ maxLength: 40 }).map((one) => Buffer.from(one))
  const arbitrary = fc.record({
    type: fc.option(text),
    producer: fc.option(text),
    key: fc.option(bytes),
    body: fc.option(bytes),
    headers: fc.array(fc.tuple(name, fc.oneof(text, bytes, fc.constant(null))), { maxLength: 5 }),
    contentType: fc.option(text),
    timeMs: fc.option(fc.integer({ min: 0, max: 4_000_000_000_000 })),
  })

  it('changes nothing of an envelope', { timeout: 60_000 }, async () => {
    const samples = fc.sample(arbitrary, 1_000)
    const batch = samples.map((more, n) => envelope(topic, `m-${n}`, more))
    const sending = stage.sending()
    stage.send(sending, batch)
    await stage.settled(sending)
    expect(sending.reports.summary).toEqual({ confirmed: 1_000 })
    const received = new Map<string, Envelope>()
    await stage.operate(async (channel) => {
      await channel.prefetch(0)
      await channel.consume(stage.queue(topic), (message) => {
        if (message === null) return
        const one = incoming(message, { kind: 'topic', topic }, 'none', 'q')
        received.set(one.id!, one)
        channel.ack(message)
      })
      await stage.eventually(
        () => `${received.size} arrived`,
        () => received.size === batch.length,
      )
    })
    for (const sent of batch) {
      const { native, ...got } = received.get(sent.id!)!
      expect(native).toBeDefined()
      expect(plain(got)).toEqual(plain(sent))
    }
  })
})

/** Views of bytes compare by what is in them. */
function plain(one: Envelope): unknown {
  const hex = (value: string | Uint8Array | null): unknown =>
    value instanceof Uint8Array ? { hex: Buffer.from(value).toString('hex') } : value
  const headers = one.headers.map(([header, value]) => [header, hex(value)])
  return { ...one, key: hex(one.key), body: hex(one.body), headers }
}
