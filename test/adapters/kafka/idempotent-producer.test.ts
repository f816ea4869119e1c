import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'

import type { KafkaRecord, Part, PartResult } from '../../../adapters/kafka/driver.ts'
import { kafkajsClient, type KafkajsSettings } from '../../../adapters/kafka/kafkajs-client.ts'
import {
  IdempotentProducer,
  type IdempotentProducerOptions,
} from '../../../adapters/kafka/idempotent-producer.ts'
import { systemClock, systemRandom } from '../../../src/contract/clock.ts'
import { FakeCluster } from './fake-cluster.ts'

let cluster: FakeCluster
const producers: IdempotentProducer[] = []

beforeEach(async () => {
  cluster = await FakeCluster.start(2)
  cluster.topic('orders', 0, 0, 1, 1)
})

afterEach(async () => {
  await Promise.all(producers.splice(0).map((producer) => producer.close()))
  await cluster.stop()
})

async function newProducer(
  more: Partial<KafkajsSettings & IdempotentProducerOptions> = {},
): Promise<IdempotentProducer> {
  const settings = {
    addresses: cluster.brokers,
    client: null,
    clientId: 'test',
    tls: null,
    sasl: null,
    connectTimeoutMs: 2_000,
    requestTimeoutMs: 5_000,
    ...more,
  }
  const client = await kafkajsClient(settings, systemRandom)
  const producer = new IdempotentProducer({
    codec: null,
    clock: systemClock,
    random: systemRandom,
    connectTimeoutMs: 2_000,
    requestTimeoutMs: 5_000,
    ...more,
    client,
  })
  producers.push(producer)
  return producer
}

function part(partition: number, ...values: (string | null)[]): Part {
  const records = values.map((value) => record({ value: value === null ? null : text(value) }))
  return { topic: 'orders', partition, records }
}

function record(more: Partial<KafkaRecord> = {}): KafkaRecord {
  return { key: null, value: text('v'), headers: [], timestampMs: null, ...more }
}

const text = (value: string): Buffer => Buffer.from(value)
const within = (ms: number): number => systemClock.now() + ms

function words(results: readonly PartResult[]): readonly string[] {
  return results.map((one) => {
    return one.status === 'stored' ? `stored ${one.baseOffset}` : `${one.status} ${one.error.code}`
  })
}

describe('the producer on connections of kafkajs', () => {
  it('tells where each part is stored', async () => {
    const producer = await newProducer()
    const first = await producer.produce([part(0, 'a', 'b'), part(2, 'c')], within(5_000))
    const second = await producer.produce([part(2, 'd'), part(0, 'e')], within(5_000))
    expect(words([...first, ...second])).toEqual(['stored 0', 'stored 0', 'stored 1', 'stored 2'])
    expect(cluster.log('orders', 0)).toEqual(['a', 'b', 'e'])
    expect(cluster.log('orders', 2)).toEqual(['c', 'd'])
    expect(producer.usable).toBe(true)
    expect(cluster.identities).toBe(1)
  })

  it('writes keys, values, headers and times as they are', async () => {
    const headers = [
      ['b', 'ü'.repeat(200)],
      ['a', null],
      ['b', Buffer.from([0, 255])],
      ['', 'x'.repeat(70)],
    ] as const
    const records = [
      record({ key: text('k'), value: null, headers }),
      record({ value: Buffer.alloc(20_000, 'x'), timestampMs: 1_600_000_000_000 }),
      record({ key: text(''), value: text(''), timestampMs: 1_800_000_000_000 }),
    ]
    const producer = await newProducer()
    const results = await producer.produce(
      [{ topic: 'orders', partition: 0, records }],
      within(5_000),
    )
    expect(words(results)).toEqual(['stored 0'])
    const [one, two, three] = cluster.records('orders', 0)
    expect(one).toMatchObject({ key: text('k'), value: null })
    expect(one?.headers).toEqual({
      b: [text('ü'.repeat(200)), Buffer.from([0, 255])],
      a: null,
      '': text('x'.repeat(70)),
    })
    expect(two?.value).toHaveLength(20_000)
    expect([two?.timestamp, three?.timestamp]).toEqual(['1600000000000', '1800000000000'])
    expect(three).toMatchObject({ key: text(''), value: text('') })
  })

  it('writes a batch whose answer was lost again under its numbers, and finds it stored once', async () => {
    const producer = await newProducer()
    await producer.produce([part(0, 'a')], within(5_000))
    cluster.faults = ({ earlier }) => (earlier === 0 ? { answer: 'cut' } : null)
    const results = await producer.produce([part(0, 'b'), part(1, 'c')], within(5_000))
    expect(words(results)).toEqual(['stored 1', 'stored 0'])
    expect(cluster.log('orders', 0)).toEqual(['a', 'b'])
    expect(producer.usable).toBe(true)
    cluster.faults = () => null
    expect(words(await producer.produce([part(0, 'd')], within(5_000)))).toEqual(['stored 2'])
    expect(cluster.log('orders', 0)).toEqual(['a', 'b', 'd'])
  })

  it('never uses the numbers of one batch for another', async () => {
    const producer = await newProducer()
    cluster.faults = ({ values }) => (values[0] === 'a' ? { stores: true, answer: 'silent' } : null)
    const lost = await producer.produce([part(0, 'a')], within(300))
    expect(words(lost)).toEqual(['unknown timeout'])
    expect(producer.usable).toBe(false)
    // Whoever uses it all the same does no harm.
    cluster.faults = () => null
    await producer.produce([part(0, 'b')], within(2_000))
    expect(cluster.log('orders', 0)).toEqual(['a', 'b'])
  })

  it('follows a leader that moved, and tells the others meanwhile', async () => {
    const producer = await newProducer()
    await producer.produce([part(0, 'a'), part(1, 'b')], within(5_000))
    cluster.move('orders', 1, 1)
    const told: string[] = []
    cluster.faults = ({ node }) => {
      if (node === 1) expect(told).toEqual(['0 stored'])
      return null
    }
    const results = await producer.produce([part(0, 'c'), part(1, 'd')], within(5_000), (at, one) =>
      told.push(`${at} ${one.status}`),
    )
    expect(words(results)).toEqual(['stored 1', 'stored 1'])
    expect(told).toEqual(['0 stored', '1 stored'])
    expect(cluster.log('orders', 1)).toEqual(['b', 'd'])
    expect(producer.usable).toBe(true)
  })

  it('finds a batch that was stored by a leader that then lost its office', async () => {
    const producer = await newProducer()
    cluster.faults = ({ earlier }) => {
      if (earlier > 0) return null
      cluster.move('orders', 0, 1)
      return { stores: true, code: 6 }
    }
    expect(words(await producer.produce([part(0, 'a')], within(5_000)))).toEqual(['stored 0'])
    expect(cluster.log('orders', 0)).toEqual(['a'])
    expect(cluster.asked.map(({ node }) => node)).toEqual([0, 1])
  })

  it('counts a partition that the answer does not name as unknown', async () => {
    const producer = await newProducer()
    cluster.faults = ({ partition }) => (partition === 1 ? { omitted: true, stores: false } : null)
    const results = await producer.produce([part(0, 'a'), part(1, 'b')], within(5_000))
    expect(words(results)).toEqual(['stored 0', 'unknown unanswered'])
    expect(producer.usable).toBe(false)
  })

  it('takes a duplicate for stored', async () => {
    const producer = await newProducer()
    cluster.faults = () => ({ code: 46 })
    const results = await producer.produce([part(0, 'a')], within(5_000))
    expect(results).toEqual([{ status: 'stored', baseOffset: null }])
  })

  it.each([
    [10, 'refused too-large', { alone: true, stale: false, retryable: false }],
    [18, 'refused too-large', { alone: true, stale: false, retryable: false }],
    [19, 'refused unavailable', { alone: false, stale: false, retryable: true }],
    [29, 'refused rejected', { alone: false, stale: false, retryable: false }],
    [45, 'refused unavailable', { alone: false, stale: true, retryable: true }],
    [59, 'refused unavailable', { alone: false, stale: true, retryable: true }],
    [87, 'refused rejected', { alone: true, stale: false, retryable: false }],
  ])('takes code %i for %s and is not used again', async (code, word, facts) => {
    const producer = await newProducer()
    cluster.faults = () => ({ code })
    const [result] = await producer.produce([part(0, 'a')], within(5_000))
    expect(words([result as PartResult])).toEqual([word])
    if (result?.status !== 'refused') throw new Error('not refused')
    const { alone, stale, error } = result
    expect({ alone, stale, retryable: error.retryable }).toEqual(facts)
    expect(error.message).toContain('orders/0')
    expect(producer.usable).toBe(false)
    expect(cluster.log('orders', 0)).toEqual([])
  })

  it.each([-1, 12_345])('does not know what code %i means for the records', async (code) => {
    const producer = await newProducer()
    cluster.faults = () => ({ code, stores: true })
    expect(words(await producer.produce([part(0, 'a')], within(5_000)))).toEqual([
      'unknown unanswered',
    ])
  })

  it.each([7, 20])('asks again after code %i, until the replicas have it', async (code) => {
    const producer = await newProducer()
    cluster.faults = ({ earlier }) => (earlier < 3 ? { code, stores: true } : null)
    expect(words(await producer.produce([part(0, 'a')], within(5_000)))).toEqual(['stored 0'])
    expect(cluster.log('orders', 0)).toEqual(['a'])
  })

  it('does not call refused what may have been stored before', async () => {
    const producer = await newProducer()
    cluster.faults = ({ earlier }) =>
      earlier === 0 ? { answer: 'cut', stores: true } : { code: 29 }
    const results = await producer.produce([part(0, 'a')], within(5_000))
    expect(words(results)).toEqual(['unknown unanswered'])
  })

  it('ends at the deadline, whatever the node does', async () => {
    const producer = await newProducer()
    await producer.produce([part(0, 'a'), part(2, 'b')], within(5_000))
    cluster.hung.add(1)
    const told: number[] = []
    const results = await producer.produce([part(0, 'c'), part(2, 'd')], within(400), (at) =>
      told.push(at),
    )
    expect(words(results)).toEqual(['stored 1', 'unknown timeout'])
    expect(told).toEqual([0])
    expect(producer.usable).toBe(false)
  })

  it('says that nothing was sent when no node could be reached', async () => {
    const producer = await newProducer({ connectTimeoutMs: 300 })
    cluster.hung.add(0).add(1)
    const [result] = await producer.produce([part(0, 'a')], within(2_000))
    expect(words([result as PartResult])).toEqual(['refused not-sent'])
    expect(result).toMatchObject({ stale: true })
    expect(cluster.asked).toEqual([])
    expect(producer.usable).toBe(false)
  })

  it('gives back a partition without a leader', async () => {
    cluster.move('orders', 1, -1)
    const producer = await newProducer()
    const results = await producer.produce([part(0, 'a'), part(1, 'b')], within(2_000))
    expect(words(results)).toEqual(['stored 0', 'refused not-sent'])
    expect(results[1]).toMatchObject({ stale: true })
  })

  it('does not know of what may have been written to a topic that is gone', async () => {
    const producer = await newProducer()
    await producer.produce([part(0, 'a')], within(2_000))
    cluster.faults = () => {
      cluster.deleteTopic('orders')
      return null
    }
    const results = await producer.produce([part(0, 'b')], within(8_000))
    expect(words(results)).toEqual(['unknown unanswered'])
  })

  it('refuses what cannot be made a record of, and writes nothing of its batch', async () => {
    const producer = await newProducer()
    const records = [record(), record({ timestampMs: Number.NaN })]
    const parts = [{ topic: 'orders', partition: 0, records }]
    const results = await producer.produce(parts, within(2_000))
    expect(words(results)).toEqual(['refused rejected'])
    expect(results[0]).toMatchObject({ alone: true })
    expect(cluster.asked).toEqual([])
  })

  it('writes nothing after it was closed', async () => {
    const producer = await newProducer()
    await producer.produce([part(0, 'a')], within(2_000))
    await producer.close()
    expect(words(await producer.produce([part(0, 'b')], within(2_000)))).toEqual([
      'refused not-sent',
    ])
    expect(cluster.log('orders', 0)).toEqual(['a'])
  })

  it('says of what it has not written that it has not, as soon as it is closed', async () => {
    cluster.hung.add(0).add(1)
    const producer = await newProducer({ connectTimeoutMs: 30_000, requestTimeoutMs: 30_000 })
    const before = systemClock.now()
    const producing = producer.produce([part(0, 'a')], within(20_000))
    await producer.close()
    expect(words(await producing)).toEqual(['refused not-sent'])
    expect(systemClock.now() - before).toBeLessThan(10_000)
    expect(cluster.log('orders', 0)).toEqual([])
  })

  it('says what the broker said when it gave no number', async () => {
    cluster.identityCode = 31
    const producer = await newProducer()
    const [result] = await producer.produce([part(0, 'a')], within(2_000))
    expect(words([result as PartResult])).toEqual(['refused rejected'])
    expect((result as { error: Error }).error.message).toContain('IDEMPOTENT_WRITE')
  })

  it('leaves the broker alone for as long as it asks', async () => {
    const producer = await newProducer()
    cluster.faults = () => ({ throttleMs: 300 })
    await producer.produce([part(0, 'a')], within(2_000))
    const before = systemClock.now()
    await producer.produce([part(0, 'b')], within(2_000))
    expect(systemClock.now() - before).toBeGreaterThanOrEqual(299)
    const results = await producer.produce([part(0, 'c')], within(100))
    expect(words(results)).toEqual(['refused not-sent'])
  })

  it('wakes nobody while nothing is to be done', async () => {
    const producer = await newProducer()
    await producer.produce([part(0, 'a'), part(2, 'b')], within(2_000))
    const timers = vi.spyOn(globalThis, 'setTimeout')
    try {
      await new Promise((resolve) => void setImmediate(resolve))
      const before = systemClock.now()
      while (systemClock.now() - before < 200) {
        await new Promise((resolve) => void setImmediate(resolve))
      }
      expect(timers.mock.calls.length).toBeLessThan(5)
    } finally {
      timers.mockRestore()
    }
  })
})
