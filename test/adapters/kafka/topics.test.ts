import { describe, expect, it } from 'vitest'

import type { DriverAdmin, PartitionInfo } from '../../../adapters/kafka/driver.ts'
import { resolveOptions, type KafkaOptions } from '../../../adapters/kafka/options.ts'
import { TopicTable } from '../../../adapters/kafka/topics.ts'
import { HoldfastError } from '../../../src/contract/errors.ts'
import type { HoldfastEvent } from '../../../src/contract/events.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'

/** A cluster whose answers a test sets. */
class Stage {
  readonly clock = new VirtualClock()
  readonly events: HoldfastEvent[] = []
  readonly asked: string[] = []
  readonly leaders = new Map<string, (number | null)[]>()
  readonly config: Record<string, string> = { 'max.message.bytes': '2000' }
  failing: Error | null = null
  readonly table: TopicTable

  constructor(options: Partial<KafkaOptions> = {}) {
    const admin: Pick<DriverAdmin, 'partitions' | 'describeTopic' | 'topics'> = {
      partitions: async (topic) => {
        this.asked.push(`partitions ${topic}`)
        if (this.failing !== null) throw this.failing
        return this.leaders.get(topic)?.map(infoOf) ?? null
      },
      describeTopic: async (topic) => {
        this.asked.push(`describe ${topic}`)
        return this.config
      },
      topics: async () => [...this.leaders.keys()],
    }
    const emit = Object.assign((event: HoldfastEvent) => void this.events.push(event), {
      wants: () => true,
    })
    const resolved = resolveOptions({ brokers: 'a', prefix: 'test.', ...options })
    this.table = new TopicTable({ admin, clock: this.clock, emit, options: resolved })
  }
}

function infoOf(leader: number | null, partition: number): PartitionInfo {
  return { partition, leader, replicas: [1, 2], isr: [1, 2] }
}

describe('the topic table', () => {
  it('gives topics and groups their names, mapped ones their own', () => {
    const { table } = new Stage({
      map: { orders: { topic: 'legacy', groups: { billing: { groupId: 'old billing' } } } },
    })
    expect(table.names('orders').topic).toBe('legacy')
    expect(table.names('orders').groupId('billing')).toBe('old billing')
    expect(table.names('orders').groupId('mail')).toBe('test.orders.mail')
    expect(table.topicOf({ kind: 'topic', topic: 'a.b' })).toBe('test.a.b')
    expect(table.topicOf({ kind: 'dead', topic: 'orders', group: 'mail' })).toBe(
      'test.orders.mail.dead',
    )
    const retry = { kind: 'group', topic: 'orders', group: 'billing', delayMs: 5_000 } as const
    expect(table.topicOf(retry)).toBe('test.orders.billing.retry.5000')
    expect(() => table.topicOf({ kind: 'reply', address: 'x' })).toThrow(/replies/)
  })

  it('asks once for many, and not again while it is fresh', async () => {
    const stage = new Stage()
    stage.leaders.set('t', [1, 2, null])
    const [one, other] = await Promise.all([stage.table.look('t'), stage.table.look('t')])
    expect(one).toEqual({
      topic: 't',
      leaders: [1, 2, null],
      maxMessageBytes: 2000,
      compression: 'producer',
    })
    expect(other).toBe(one)
    await stage.table.look('t')
    expect(stage.table.find('t')).toBe(one)
    expect(stage.asked).toEqual(['partitions t', 'describe t'])
  })

  it('asks again for leaders when they proved wrong, and not for the limit', async () => {
    const stage = new Stage()
    stage.leaders.set('t', [1])
    await stage.table.look('t')
    stage.leaders.set('t', [2])
    stage.table.stale('t')
    expect((await stage.table.look('t'))?.leaders).toEqual([2])
    expect(stage.asked).toEqual(['partitions t', 'describe t', 'partitions t'])
  })

  it('asks again when it is told wrong while it asks', async () => {
    const stage = new Stage()
    stage.leaders.set('t', [1])
    const first = stage.table.look('t')
    stage.table.stale('t')
    await first
    stage.leaders.set('t', [2])
    expect((await stage.table.look('t'))?.leaders).toEqual([2])
  })

  it('knows that a topic is not there for a second only', async () => {
    const stage = new Stage()
    expect(await stage.table.look('t')).toBeNull()
    stage.leaders.set('t', [1])
    expect(await stage.table.look('t')).toBeNull()
    await stage.clock.advance(1_001)
    expect(await stage.table.look('t')).not.toBeNull()
  })

  it('notices that a topic has grown, and says so', async () => {
    const stage = new Stage()
    stage.leaders.set('t', [1, 1])
    await stage.table.look('t')
    stage.leaders.set('t', [1, 1, 1])
    await stage.clock.advance(300_001)
    expect(stage.table.find('t')?.leaders).toHaveLength(2)
    expect((await stage.table.look('t'))?.leaders).toHaveLength(3)
    expect(stage.events).toMatchObject([{ type: 'warning', code: 'kafka.partitions-changed' }])
  })

  it('rejects while nobody can say, and asks anew the next time', async () => {
    const stage = new Stage()
    stage.leaders.set('t', [1])
    stage.failing = new HoldfastError('unavailable', 'away')
    await expect(stage.table.look('t')).rejects.toThrow('away')
    stage.failing = null
    expect(await stage.table.look('t')).not.toBeNull()
  })

  it('keeps what it knew while it cannot be asked anew', async () => {
    const stage = new Stage()
    stage.leaders.set('t', [1])
    await stage.table.look('t')
    stage.table.stale('t')
    stage.failing = new HoldfastError('unavailable', 'away')
    expect(stage.table.find('t')?.leaders).toEqual([1])
    await expect(stage.table.look('t')).rejects.toThrow('away')
    expect(stage.table.find('t')?.leaders).toEqual([1])
  })

  it('finds the retry topics of a group, also ones that nobody here declared', async () => {
    const stage = new Stage()
    const names = ['orders.a.retry.30000', 'orders.a.retry.0', 'orders.a.retry.01', 'orders.a.dead']
    const others = ['orders.ab.retry.5', 'orders', 'x.orders.a.retry.7', 'orders.a.retry.5.dead']
    for (const name of [...names, ...others]) stage.leaders.set(`test.${name}`, [1])
    expect(await stage.table.retryTopics('orders', 'a')).toEqual([
      { topic: 'test.orders.a.retry.0', levelMs: 0 },
      { topic: 'test.orders.a.retry.30000', levelMs: 30_000 },
    ])
  })
})
