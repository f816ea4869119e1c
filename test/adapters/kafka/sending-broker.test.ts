import assert from 'node:assert/strict'

import { ConfigResourceTypes, Kafka, logLevel, Partitioners } from 'kafkajs'
import { afterEach, describe, expect, it } from 'vitest'

import { openBehind } from '../../brokers/kafka-behind.ts'
import { leadersOf, plainKafka, withAdmin } from '../../brokers/kafka-topics.ts'
import { sharedKafka } from '../../brokers/shared-kafka.ts'
import { firstPlaces, keyed, message, SendingPlace } from './sending-place.ts'

const node = await sharedKafka()
const closing: (() => Promise<unknown>)[] = []

afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
})

async function place(...given: Parameters<typeof SendingPlace.open>): Promise<SendingPlace> {
  const opened = await SendingPlace.open(...given)
  closing.push(async () => {
    await opened.close()
    assert.deepEqual(opened.breaches, [])
  })
  return opened
}

const direct = { brokers: node.broker }
const bytes = (text: string): Buffer => Buffer.from(text)

describe('sending to a real Kafka', () => {
  it('writes CloudEvents in binary mode, with every header as it is', async () => {
    const at = await place(direct)
    const topic = await at.topic()
    const headers = [
      ['traceparent', '00-aa-bb-01'],
      ['twice', 'a'],
      ['twice', Buffer.from([0, 255])],
      ['none', null],
    ] as const
    at.send([message(topic, 'one', { headers, key: bytes('k') })])
    at.send([message(topic, 'gone', { body: null, key: bytes('k') })])
    await at.idle()
    expect(at.outcomes.get('gone')).toMatchObject({ at: { partition: 0, offset: '1' } })
    const [one, gone] = await at.read(topic)
    expect(one).toMatchObject({ key: bytes('k'), value: bytes('one'), offset: 0n })
    expect(one?.headers).toEqual({
      ce_specversion: bytes('1.0'),
      ce_id: bytes('one'),
      ce_type: bytes('test'),
      ce_source: bytes('test'),
      ce_time: bytes('2023-11-14T22:13:20.000Z'),
      'content-type': bytes('text/plain'),
      traceparent: bytes('00-aa-bb-01'),
      twice: [bytes('a'), Buffer.from([0, 255])],
      none: null,
    })
    expect(gone?.value).toBeNull()
  })

  it('puts keys where every other client of today puts them', async () => {
    const at = await place(direct)
    const topic = await at.topic({ partitions: 7 })
    const keys = ['', 'a', 'ü', 'customer-4711', 'x'.repeat(300), 'c-9']
    at.send(keys.map((key) => message(topic, `ours-${key}`, { key: bytes(key) })))
    await at.idle()
    const producer = plainKafka([node.broker]).producer({
      createPartitioner: Partitioners.DefaultPartitioner,
    })
    await producer.connect()
    await producer.send({ topic, messages: keys.map((key) => ({ key, value: 'theirs' })) })
    await producer.disconnect()
    // The console of the container knows no other letters.
    const spoken = keys.filter((key) => /^[ -~]+$/.test(key))
    const lines = spoken.map((key) => `${key}:console\n`)
    const options = `--topic ${topic} --bootstrap-server ${node.internalBroker} --reader-property parse.key=true --reader-property key.separator=:`
    await node.run(
      'sh',
      '-c',
      `printf '${lines.join('')}' | java -XX:TieredStopAtLevel=1 -cp '/opt/kafka/libs/*' org.apache.kafka.tools.ConsoleProducer ${options}`,
    )
    const placed = new Map<string, Set<number>>()
    const records = await at.read(topic)
    for (const { key, partition } of records) {
      const name = String(key)
      placed.set(name, (placed.get(name) ?? new Set()).add(partition))
    }
    expect(records).toHaveLength(2 * keys.length + spoken.length)
    for (const key of keys) expect(placed.get(key)?.size).toBe(1)
  })

  it('makes no topic by writing to it', async () => {
    const at = await place(direct)
    at.send([message('nowhere-at-all', 'lost')])
    await at.idle()
    expect(at.summary).toEqual({ 'refused unroutable': 1 })
    const topics = await withAdmin([node.broker], (admin) => admin.listTopics())
    expect(topics).not.toContain('nowhere-at-all')
  })

  it('isolates the one that is too large, before it is sent', async () => {
    const at = await place(direct)
    const topic = await at.topic()
    const batch = Array.from({ length: 500 }, (_, n) => message(topic, `m${n}`))
    batch[250] = message(topic, 'large', { body: Buffer.alloc(1_100_000) })
    at.send(batch)
    await at.idle()
    expect(at.summary).toEqual({ confirmed: 499, 'refused too-large': 1 })
    expect(at.ids('refused')).toEqual(['large'])
    expect(await at.read(topic)).toHaveLength(499)
  })

  it('isolates the one that is too large by what the broker says', async () => {
    const at = await place(direct)
    const topic = await at.topic()
    at.send([message(topic, 'first')])
    await at.idle()
    const configEntries = [{ name: 'max.message.bytes', value: '3000' }]
    await withAdmin([node.broker], (admin) =>
      admin.alterConfigs({
        validateOnly: false,
        resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries }],
      }),
    )
    const batch = Array.from({ length: 8 }, (_, n) => message(topic, `m${n}`))
    batch[5] = message(topic, 'large', { body: Buffer.alloc(4_000) })
    at.send(batch)
    await at.idle()
    expect(at.summary).toEqual({ confirmed: 8, 'refused too-large': 1 })
    expect(at.ids('refused')).toEqual(['large'])
    const values = (await at.read(topic)).map(({ value }) => String(value))
    expect(values).toEqual(['first', 'm0', 'm1', 'm2', 'm3', 'm4', 'm6', 'm7'])
  })

  it('splits by bytes what does not fit one batch, in order', async () => {
    const at = await place(direct)
    const topic = await at.topic({ config: { 'max.message.bytes': '10000' } })
    const batch = Array.from({ length: 100 }, (_, n) => {
      return message(topic, `m${n}`, { key: bytes('k'), body: Buffer.alloc(3_000, n) })
    })
    at.send(batch)
    await at.idle()
    expect(at.summary).toEqual({ confirmed: 100 })
    const order = (await at.read(topic)).map(({ value }) => value?.[0])
    expect(order).toEqual(Array.from({ length: 100 }, (_, n) => n))
  })

  it.each(['gzip', 'snappy', 'lz4'] as const)(
    'compresses with %s so that others read it',
    async (compression) => {
      const at = await place({ ...direct, compression })
      const topic = await at.topic()
      const random = Buffer.from(Array.from({ length: 5_000 }, (_, n) => (n * n * 7_919) % 251))
      const batch = Array.from({ length: 300 }, (_, n) => message(topic, `message number ${n}`))
      at.send([...batch, message(topic, 'random', { body: random })])
      await at.idle()
      expect(at.summary).toEqual({ confirmed: 301 })
      // Kafka's own consumer checks the sums and knows all codecs.
      const read = await node.tool(
        'org.apache.kafka.tools.consumer.ConsoleConsumer',
        ...['--bootstrap-server', node.internalBroker, '--topic', topic, '--from-beginning'],
        ...['--max-messages', '300', '--timeout-ms', '20000'],
      )
      const lines = read.trim().split('\n')
      expect(lines).toEqual(batch.map(({ id }) => id))
    },
  )

  it('refuses what a compacted topic does not take, alone', async () => {
    const at = await place(direct)
    const topic = await at.topic({ config: { 'cleanup.policy': 'compact' } })
    at.send([
      message(topic, 'a', { key: bytes('k') }),
      message(topic, 'without'),
      message(topic, 'b', { key: bytes('l') }),
    ])
    await at.idle()
    expect(at.summary).toEqual({ confirmed: 2, 'refused rejected': 1 })
    expect(at.ids('refused')).toEqual(['without'])
  })

  it('stores once what the answer of was lost, again and again', async () => {
    const behind = await openBehind([node])
    closing.push(() => behind.close())
    const at = await place({ brokers: behind.brokers, requestTimeoutMs: 1_000 }, [node.broker])
    const topic = await at.topic({ partitions: 2 })
    const lost = behind.proxies[0]!.rule('Produce', { do: 'lose-answer' }, 2)
    const reset = behind.proxies[0]!.rule('Produce', { do: 'reset-answer' }, 3)
    const dropped = behind.proxies[0]!.rule('Produce', { do: 'reset' }, 2)
    for (let call = 0; call < 10; call++) {
      at.send(keyed(topic, `c${call}`, 20, 4))
      await at.idle()
    }
    expect([lost.fired, reset.fired, dropped.fired]).toEqual([2, 3, 2])
    expect(at.summary).toEqual({ confirmed: 200 })
    const values = (await at.read(topic)).map(({ value }) => String(value))
    expect(values).toHaveLength(200)
    expect(new Set(values).size).toBe(200)
  })

  it('finds out what became of what a leader answered that had lost its office', async () => {
    const behind = await openBehind([node])
    closing.push(() => behind.close())
    const at = await place({ brokers: behind.brokers }, [node.broker])
    const topic = await at.topic()
    const rule = behind.proxies[0]!.rule('Produce', { do: 'answer-error', code: 6 }, 2)
    at.send(keyed(topic, 'a', 10, 1))
    await at.idle()
    expect(rule.fired).toBe(2)
    expect(at.summary).toEqual({ confirmed: 10 })
    expect(await at.read(topic)).toHaveLength(10)
  })

  it('goes on with another producer when the broker does not know its number any more', async () => {
    const behind = await openBehind([node])
    closing.push(() => behind.close())
    const at = await place({ brokers: behind.brokers }, [node.broker])
    const topic = await at.topic()
    at.send(keyed(topic, 'a', 3, 1))
    await at.idle()
    // A broker that says this has written nothing; the proxy's has, which is no matter here.
    for (const code of [45, 59, 47]) {
      const rule = behind.proxies[0]!.rule('Produce', { do: 'answer-error', code }, 1)
      at.send(keyed(topic, `e${code}`, 3, 1))
      await at.idle()
      expect(rule.fired).toBe(1)
    }
    expect(at.summary).toEqual({ confirmed: 12 })
    expect(at.outcomes.size).toBe(12)
  })

  it('does not know what became of what a standing broker was sent, and has it in order later', async () => {
    const at = await place({ ...direct, requestTimeoutMs: 1_000, connectTimeoutMs: 1_000 })
    const topic = await at.topic()
    at.send(keyed(topic, 'a', 10, 2))
    await at.idle()
    const goOn = await node.pause()
    try {
      at.send(keyed(topic, 'b', 10, 2), 1_500)
      at.send(keyed(topic, 'c', 10, 2), 1_500)
      await at.idle()
      expect(at.summary).toEqual({ confirmed: 10, 'unknown timeout': 10, 'refused not-sent': 10 })
    } finally {
      await goOn()
    }
    at.send(keyed(topic, 'd', 10, 2))
    await at.idle()
    expect(at.summary).toMatchObject({ confirmed: 20 })
    const records = await at.read(topic)
    const values = new Set(records.map(({ value }) => String(value)))
    for (const id of at.ids('confirmed')) assert.ok(values.has(id), id)
    for (const id of at.ids('refused')) assert.ok(!values.has(id), id)
    for (const ids of firstPlaces(records).values()) {
      const prefixes = ids.map((id) => id[0] as string)
      assert.deepEqual(prefixes, prefixes.toSorted())
    }
  })

  it('keeps its memory flat while a broker stands still', async () => {
    const at = await place({ ...direct, requestTimeoutMs: 1_000, connectTimeoutMs: 1_000 })
    const topic = await at.topic()
    at.send(keyed(topic, 'a', 10, 2))
    await at.idle()
    const goOn = await node.pause()
    const heaps: number[] = []
    try {
      for (let round = 0; round < 12; round++) {
        const body = Buffer.alloc(1_000, 'x')
        for (let call = 0; call < 10; call++) {
          at.send(
            Array.from({ length: 500 }, (_, n) =>
              message(topic, `${round}-${call}-${n}`, { body }),
            ),
            150,
          )
        }
        await at.idle()
        at.outcomes.clear()
        at.events.length = 0
        globalThis.gc?.()
        heaps.push(process.memoryUsage().heapUsed)
      }
    } finally {
      await goOn()
    }
    const growth = Math.min(...heaps.slice(-3)) - Math.min(...heaps.slice(2, 6))
    expect(growth).toBeLessThan(15_000_000)
  })

  it('survives a broker that restarts under load', async () => {
    const at = await place(direct)
    const topic = await at.topic({ partitions: 4 })
    let isOver = false
    const restart = node.restart().finally(() => void (isOver = true))
    for (let call = 0; !isOver || call < 20; call++) {
      at.send(keyed(topic, String(call).padStart(5, '0'), 20, 8), 50_000)
      await Promise.race([at.idle(), restart])
    }
    await restart
    await at.idle()
    expect(at.summary).toEqual({ confirmed: at.outcomes.size })
    const records = await at.read(topic)
    expect(records).toHaveLength(at.outcomes.size)
    for (const ids of firstPlaces(records).values()) assert.deepEqual(ids, ids.toSorted())
  })

  it("uses the user's own client, and does not change it", async () => {
    const client = new Kafka({ brokers: [node.broker], logLevel: logLevel.NOTHING })
    const before = Reflect.ownKeys(client)
    const at = await place({ client }, [node.broker])
    const topic = await at.topic({ partitions: 3 })
    at.send(keyed(topic, 'a', 30, 10))
    await at.idle()
    expect(at.summary).toEqual({ confirmed: 30 })
    expect(Reflect.ownKeys(client)).toEqual(before)
    expect((await leadersOf([node.broker], topic)).size).toBe(3)
  })
})
