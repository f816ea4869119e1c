import { afterEach, beforeAll, describe, expect, it } from 'vitest'

import { ClusterGroupLink } from '../../../adapters/kafka/cluster-group-link.ts'
import type { Joined } from '../../../adapters/kafka/group-link.ts'
import { encodeClaim } from '../../../adapters/kafka/group-protocol.ts'
import { sleep, systemClock } from '../../../src/contract/clock.ts'
import { createTopic, plainKafka, withAdmin } from '../../brokers/kafka-topics.ts'
import { sharedKafka } from '../../brokers/shared-kafka.ts'
import { clientUnderTest } from './client-under-test.ts'
import { LIMIT_MS, publish, specOf, TestMember, topicName } from './test-member.ts'

let brokers: string[] = []
const members: TestMember[] = []

beforeAll(async () => {
  brokers = [(await sharedKafka()).broker]
}, 240_000)

afterEach(async () => {
  await Promise.all(members.splice(0).map((member) => member.leave()))
})

async function join(...args: Parameters<typeof TestMember.join>): Promise<TestMember> {
  const member = await TestMember.join(...args)
  members.push(member)
  return member
}

async function madeTopic(partitions = 1): Promise<string> {
  const topic = topicName()
  await createTopic(brokers, topic, { partitions })
  return topic
}

const values = (count: number, from = 0): { value: string }[] =>
  Array.from({ length: count }, (_, n) => ({ value: String(from + n) }))

describe('a member of a group', () => {
  it('reads from where it is told to, in order, without a gap', async () => {
    const topic = await madeTopic()
    await publish(brokers, topic, values(200))
    const member = await join(brokers, specOf([topic]), (one) => (one.start = 50n))
    await publish(brokers, topic, values(100, 200))
    await member.has(250)
    expect(member.texts).toEqual(values(250, 50).map(({ value }) => value))
    expect(member.nexts.get(`${topic}/0`)).toBe(300n)
  })

  it('reads nothing before it is told where, and nothing while it is paused', async () => {
    const topic = await madeTopic()
    await publish(brokers, topic, values(10))
    const member = await join(brokers, specOf([topic]), (one) => (one.start = null))
    await sleep(systemClock, 500)
    expect(member.texts).toEqual([])
    member.consumer?.pause(member.parts)
    member.consumer?.seek(member.parts[0]!, 5n)
    await sleep(systemClock, 500)
    expect(member.texts).toEqual([])
    member.consumer?.resume(member.parts)
    await member.has(5)
    expect(member.texts).toEqual(['5', '6', '7', '8', '9'])
  })

  it('commits with metadata, and finds it again', async () => {
    const topic = await madeTopic()
    const spec = specOf([topic])
    const member = await join(brokers, spec)
    const parts = member.parts
    const none = await member.consumer!.committed(parts, systemClock.now() + LIMIT_MS)
    expect(none).toEqual([{ topic, partition: 0, offset: null, metadata: null }])
    await member.commit(7n, 'some text')
    await member.leave()
    const next = await join(brokers, spec)
    const found = await next.consumer!.committed(parts, systemClock.now() + LIMIT_MS)
    expect(found).toEqual([{ topic, partition: 0, offset: 7n, metadata: 'some text' }])
  })

  it('says of metadata that is too large that it is', async () => {
    const topic = await madeTopic()
    const member = await join(brokers, specOf([topic]))
    await expect(member.commit(0n, 'x'.repeat(5_000))).rejects.toMatchObject({ code: 'too-large' })
    await member.commit(0n, 'x'.repeat(4_096))
  })

  it('gives partitions up only after they were finished, and keeps reading the others', async () => {
    const topic = await madeTopic(4)
    const spec = specOf([topic])
    let finish = (): void => undefined
    const finished = new Promise<void>((resolve) => (finish = resolve))
    const one = await join(brokers, spec, (member) => (member.onYielding = () => finished))
    expect(one.names).toHaveLength(4)
    const two = await join(brokers, spec)
    await one.was('yielding')
    const asked = one.told.find((text) => text.startsWith('yielding'))!
    const kept = one.names.filter((name) => !asked.includes(name))
    expect(kept).toHaveLength(2)
    await sleep(systemClock, 1_000)
    expect(two.names).toEqual([])
    await publish(brokers, topic, [{ value: 'meanwhile', partition: Number(kept[0]!.slice(-1)) }])
    await one.has(1)
    await one.commit(0n)
    finish()
    await one.owns(...kept)
    await two.owns(...[0, 1, 2, 3].map((n) => `${topic}/${n}`).filter((n) => !kept.includes(n)))
    expect(one.told.filter((text) => text.startsWith('lost'))).toEqual([])
  })

  it('keeps what it has while it waits for one that takes longer than a session to come back', async () => {
    const topic = await madeTopic(2)
    const spec = specOf([topic], { rebalanceTimeoutMs: 30_000 })
    const slow = new ClusterGroupLink({
      client: await clientUnderTest({ brokers }),
      clock: systemClock,
      ...spec,
    })
    const soon = (): number => systemClock.now() + LIMIT_MS
    const metadata = encodeClaim({ topics: [topic], generation: -1, owned: [] })
    const come = (id: string): Promise<Joined> =>
      slow.join(id, [{ name: 'holdfast', metadata }], soon())
    await slow.open(soon())
    try {
      const one = await join(brokers, spec)
      const first = await come('')
      await slow.sync(first.member, new Map(), soon())
      // What it gave up makes it join again; the other one is alive, and comes back late.
      await one.was('yielded 2')
      for (let times = 0; times < 9; times++) {
        await slow.heartbeat(first.member, soon()).catch(() => undefined)
        await sleep(systemClock, 1_000)
      }
      expect(one.told.filter((text) => /^(lost|assigned 3)/.test(text))).toEqual([])
      const back = await come(first.member.id)
      await slow.sync(back.member, new Map(), soon())
      await one.was('assigned 3')
      expect(one.told.filter((text) => text.startsWith('lost'))).toEqual([])
      await slow.leave(back.member, soon())
    } finally {
      await slow.close(soon())
    }
  })

  it('lets the others have what it leaves', async () => {
    const topic = await madeTopic(2)
    const spec = specOf([topic])
    const one = await join(brokers, spec)
    const two = await join(brokers, spec)
    await one.owns(...one.names.slice(0, 1))
    await two.leave()
    await one.owns(`${topic}/0`, `${topic}/1`)
  })

  it('refuses to commit for an assignment that is over', async () => {
    const topic = await madeTopic(2)
    const spec = specOf([topic])
    const one = await join(brokers, spec)
    const before = one.epoch
    const parts = one.parts
    await join(brokers, spec)
    await one.was('yielded')
    const stale = parts.map((part) => ({ ...part, offset: 99n, metadata: null }))
    const commit = one.consumer!.commit(before, stale, systemClock.now() + LIMIT_MS)
    await expect(commit).rejects.toMatchObject({ code: 'aborted' })
    const committed = async (): Promise<unknown> => {
      const found = await one.consumer!.committed(parts, systemClock.now() + LIMIT_MS)
      return found.map(({ offset }) => offset)
    }
    // Nothing is asked while the group is divided anew.
    await expect.poll(() => committed().catch(() => null), { timeout: LIMIT_MS }).not.toBeNull()
    expect(await committed()).toEqual([null, null])
  })

  it('stays a member while nothing is read and everything waits', async () => {
    const topic = await madeTopic()
    const member = await join(brokers, specOf([topic], { sessionTimeoutMs: 1_500 }))
    member.consumer?.pause(member.parts)
    await sleep(systemClock, 5_000)
    expect(member.told).toHaveLength(1)
    await member.commit(0n)
  })

  it('says what the log has where reading cannot go on', async () => {
    const topic = await madeTopic()
    await publish(brokers, topic, values(20))
    await withAdmin(brokers, async (admin) => {
      // Or kafkajs does not know where the partition is.
      await admin.fetchTopicOffsets(topic)
      await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '12' }] })
    })
    const member = await join(brokers, specOf([topic]), (one) => {
      one.start = 3n
      one.onOutOfRange = (part, { begin }) => one.consumer?.seek(part, begin)
    })
    await member.has(8)
    expect(member.told).toContain(`out of range ${topic}/0: 3 of 12 to 20`)
    expect(member.texts).toEqual(values(8, 12).map(({ value }) => value))
    const none = await member.consumer!.committed(member.parts, systemClock.now() + LIMIT_MS)
    expect(none[0]?.offset).toBeNull()
  })

  it('goes past control records and transactions that were aborted', async () => {
    const topic = await madeTopic()
    const transactionalId = `tx-${topic}`
    const producer = plainKafka(brokers).producer({
      transactionalId,
      maxInFlightRequests: 1,
      idempotent: true,
      createPartitioner: () => () => 0,
    })
    await producer.connect()
    for (const [value, how] of [
      ['one', 'commit'],
      ['two', 'abort'],
      ['three', 'commit'],
    ] as const) {
      const transaction = await producer.transaction()
      await transaction.send({ topic, messages: [{ value, partition: 0 }] })
      await transaction[how]()
    }
    await producer.disconnect()
    const member = await join(brokers, specOf([topic]))
    await member.has(2)
    expect(member.texts).toEqual(['one', 'three'])
    await sleep(systemClock, 500)
    expect(member.nexts.get(`${topic}/0`)).toBe(6n)
  })

  it('finds partitions that are added, with all that is in them', async () => {
    const topic = await madeTopic(1)
    const member = await join(brokers, specOf([topic]))
    await withAdmin(brokers, (admin) =>
      admin.createPartitions({ topicPartitions: [{ topic, count: 2 }] }),
    )
    await publish(brokers, topic, [{ value: 'in the new one', partition: 1 }])
    // Whoever comes finds them; the leader looks by itself once a minute.
    await member.leave()
    const next = await join(brokers, specOf([topic]))
    await next.owns(`${topic}/0`, `${topic}/1`)
    await next.has(1)
  })

  it('says that a topic is gone', async () => {
    const topic = await madeTopic()
    const member = await join(brokers, specOf([topic]))
    await withAdmin(brokers, (admin) => admin.deleteTopics({ topics: [topic] }))
    const over = async (): Promise<void> => {
      while (member.failures.length === 0) await sleep(systemClock, 50)
    }
    await over()
    expect(member.failures[0]).toMatchObject({ code: 'destination-gone' })
    expect(member.failures[0]?.message).toContain(topic)
  })

  it('joins again for other topics', async () => {
    const topics = [await madeTopic(), await madeTopic()]
    const member = await join(brokers, specOf(topics.slice(0, 1)))
    await member.owns(`${topics[0]}/0`)
    member.consumer?.subscribe?.(topics)
    await member.owns(...topics.map((topic) => `${topic}/0`))
    await publish(brokers, topics[1]!, [{ value: 'from the second' }])
    await member.has(1)
    member.consumer?.subscribe?.(topics.slice(1))
    await member.owns(`${topics[1]}/0`)
  })

  it('shares a group with plain kafkajs', async () => {
    const topic = await madeTopic(4)
    const spec = specOf([topic])
    const member = await join(brokers, spec)
    const plain = plainKafka(brokers).consumer({ groupId: spec.groupId, sessionTimeout: 6_000 })
    const seen: string[] = []
    await plain.connect()
    await plain.subscribe({ topic, fromBeginning: true })
    await plain.run({
      eachMessage: async ({ message }) => void seen.push(message.value?.toString() ?? ''),
    })
    while (member.names.length !== 2) await sleep(systemClock, 50)
    await publish(
      brokers,
      topic,
      [0, 1, 2, 3].map((partition) => ({ value: `p${partition}`, partition })),
    )
    while (member.texts.length + seen.length < 4) await sleep(systemClock, 50)
    expect([...member.texts, ...seen].sort()).toEqual(['p0', 'p1', 'p2', 'p3'])
    await plain.disconnect()
    await member.owns(...[0, 1, 2, 3].map((n) => `${topic}/${n}`))
  })
})
