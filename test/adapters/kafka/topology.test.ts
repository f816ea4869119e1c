import { describe, expect, it } from 'vitest'

import { rewind } from '../../../adapters/kafka/anchors.ts'
import { resolveOptions, type KafkaOptions } from '../../../adapters/kafka/options.ts'
import { TopicTable } from '../../../adapters/kafka/topics.ts'
import { Provisioner } from '../../../adapters/kafka/topology.ts'
import { systemClock } from '../../../src/contract/clock.ts'
import type { HoldfastEvent } from '../../../src/contract/events.ts'
import type { Finding, TopicTopology } from '../../../src/contract/topology.ts'
import { FakeAdmin } from './fake-admin.ts'

const ORDERS: TopicTopology = {
  name: 'orders',
  groups: ['billing'],
  partitions: null,
  ordering: 'key',
  retryLevelsMs: [1_000, 5_000],
}

/** A provisioner on a fake cluster. */
class Stage {
  readonly admin: FakeAdmin
  readonly events: HoldfastEvent[] = []
  readonly #provisioner: Provisioner

  constructor(given: Partial<KafkaOptions> = {}, admin = new FakeAdmin()) {
    this.admin = admin
    const options = resolveOptions({ brokers: 'a', ...given })
    const emit = Object.assign((event: HoldfastEvent) => void this.events.push(event), {
      wants: () => true,
    })
    const topics = new TopicTable({ admin, clock: systemClock, emit, options })
    this.#provisioner = new Provisioner({ admin, topics, options, clock: systemClock, emit })
  }

  provision(topology: Partial<TopicTopology> = {}, mode: 'create' | 'verify' = 'create') {
    return this.#provisioner.provision({ topics: [{ ...ORDERS, ...topology }] }, mode)
  }

  /** The topic of orders with records up to these offsets in its partitions. */
  withSource(ends: readonly bigint[], begins: readonly bigint[] = []): this {
    const topic = this.admin.add('orders', { partitions: ends.length, replication: 3, config: {} })
    topic.config['min.insync.replicas'] = '2'
    topic.logs = ends.map((end, index) => ({ begin: begins[index] ?? 0n, end, records: [] }))
    return this
  }
}

const codes = (findings: readonly Finding[]) =>
  findings.map(({ severity, code, subject }) => `${severity} ${code} ${subject}`)

describe('provisioning', () => {
  it('makes topic, retry topics and dead-letter topic, and nothing the second time', async () => {
    const stage = new Stage()
    expect(await stage.provision()).toEqual([])
    const { admin } = stage
    expect(admin.made).toEqual([
      'orders',
      'orders.billing.retry.0',
      'orders.billing.retry.1000',
      'orders.billing.retry.5000',
      'orders.billing.dead',
    ])
    for (const { partitions, config } of admin.known.values()) {
      expect(partitions).toHaveLength(4)
      expect(partitions[0]?.replicas).toHaveLength(3)
      expect(config).toMatchObject({
        'min.insync.replicas': '2',
        'unclean.leader.election.enable': 'false',
        'cleanup.policy': 'delete',
      })
    }
    expect(await stage.provision()).toEqual([])
    expect(admin.made).toHaveLength(5)
  })

  it('makes retry and dead-letter topics like the topic they come from', async () => {
    const stage = new Stage().withSource([0n, 0n])
    const source = stage.admin.topic('orders')
    source.config['max.message.bytes'] = '5000000'
    source.config['retention.ms'] = '1209600000'
    await stage.provision()
    expect(stage.admin.topic('orders.billing.retry.5000').config).toMatchObject({
      'message.timestamp.type': 'LogAppendTime',
      'max.message.bytes': '5065536',
      'retention.ms': '1209605000',
      'retention.bytes': '-1',
      'min.insync.replicas': '2',
    })
    expect(stage.admin.topic('orders.billing.dead').config).toMatchObject({
      'max.message.bytes': '5065536',
      'retention.ms': '-1',
    })
    expect(stage.admin.topic('orders.billing.dead').partitions).toHaveLength(2)
  })

  it('keeps retries for a week at least, and for ever when the topic does', async () => {
    const stage = new Stage().withSource([0n])
    stage.admin.topic('orders').config['retention.ms'] = '1000'
    await stage.provision()
    expect(stage.admin.topic('orders.billing.retry.1000').config['retention.ms']).toBe('604801000')
    const other = new Stage().withSource([0n])
    other.admin.topic('orders').config['retention.ms'] = '-1'
    await other.provision()
    expect(other.admin.topic('orders.billing.retry.1000').config['retention.ms']).toBe('-1')
  })

  it('takes partitions and copies from topology and options', async () => {
    const stage = new Stage({ replication: 2, minInsyncReplicas: 1 })
    await stage.provision({ partitions: 6 })
    const { partitions, config } = stage.admin.topic('orders')
    expect(partitions).toHaveLength(6)
    expect(partitions[0]?.replicas).toEqual([1, 2])
    expect(config['min.insync.replicas']).toBe('1')
  })

  it('verifies without making anything, and names what is missing', async () => {
    const stage = new Stage()
    expect(codes(await stage.provision({}, 'verify'))).toEqual(['error kafka.topic-missing orders'])
    stage.withSource([3n])
    const found = await stage.provision({}, 'verify')
    expect(codes(found)).toEqual([
      'error kafka.topic-missing orders.billing.retry.0',
      'error kafka.topic-missing orders.billing.retry.1000',
      'error kafka.topic-missing orders.billing.retry.5000',
      'error kafka.topic-missing orders.billing.dead',
    ])
    expect(stage.admin.made).toEqual([])
    expect(stage.admin.committed.size).toBe(0)
  })

  it('looks at a mapped topic, and never makes it', async () => {
    const map = { orders: { topic: 'legacy', groups: { billing: { groupId: 'old' } } } }
    const stage = new Stage({ map })
    const [missing] = await stage.provision()
    expect(missing).toMatchObject({ code: 'kafka.topic-missing', subject: 'legacy' })
    expect(missing?.message).toMatch(/mapped/)
    stage.admin.add('legacy', { partitions: 1, replication: 3, config: {} }).logs[0]!.end = 9n
    await stage.provision()
    expect(stage.admin.made).not.toContain('legacy')
    expect(stage.admin.offsetsOf('old', 'legacy')).toEqual([9n])
    expect(stage.admin.known.has('orders.billing.dead')).toBe(true)
  })

  it('refuses names that do not fit', async () => {
    const stage = new Stage({ prefix: 'p'.repeat(60) })
    await expect(stage.provision({ name: 'o'.repeat(200) })).rejects.toThrow(/249/)
    await expect(stage.provision({ groups: ['a.b'] })).rejects.toThrow(/group name/)
  })

  it('says when the topic has other partitions than declared, or fewer than frozen', async () => {
    const stage = new Stage({ frozenPartitionCount: { orders: 5 } }).withSource([0n, 0n])
    const found = codes(await stage.provision({ partitions: 3 }))
    expect(found).toContain('warning kafka.partitions orders')
    expect(found).toContain('error kafka.frozen-partitions orders')
  })

  it('names weak durability once, as warnings, and as errors when strict', async () => {
    const admin = new FakeAdmin()
    admin.brokers = [1]
    const stage = new Stage({}, admin)
    await stage.provision()
    const found = codes(await stage.provision())
    expect(found).toContain('warning kafka.replication orders')
    expect(found).toContain('warning kafka.replication orders.billing.dead')
    await stage.provision()
    expect(stage.events.map((event) => 'code' in event && event.code)).toEqual([
      'kafka.replication',
      'kafka.replication',
    ])
    const strict = new Stage({ strict: true }, admin)
    expect(codes(await strict.provision())).toContain('error kafka.replication orders')
  })

  it.each([
    ['orders.billing.dead', 1_000_000],
    ['orders.billing.dead', 5_000_000],
    ['orders.billing.retry.1000', 5_008_191],
  ])(
    'names %s that takes %d bytes as one without room, as an error when strict',
    async (name, bytes) => {
      const stage = new Stage().withSource([0n])
      const { admin } = stage
      admin.topic('orders').config['max.message.bytes'] = '5000000'
      await stage.provision()
      expect(codes(await stage.provision())).toEqual([])
      admin.topic(name).config['max.message.bytes'] = String(bytes)
      expect(codes(await stage.provision())).toEqual([`warning kafka.max-message-bytes ${name}`])
      for (const mode of ['create', 'verify'] as const) {
        const [found, ...others] = await new Stage({ strict: true }, admin).provision({}, mode)
        expect(found).toMatchObject({
          severity: 'error',
          subject: name,
          declared: 'at least 5008192',
        })
        expect(others).toEqual([])
      }
      admin.topic(name).config['max.message.bytes'] = '5008192'
      expect(codes(await stage.provision())).toEqual([])
    },
  )

  it('does not refuse to start with strict because a copy is away', async () => {
    const stage = new Stage({ strict: true })
    await stage.provision()
    const { partitions } = stage.admin.topic('orders')
    partitions[0] = { ...partitions[0]!, isr: [1] }
    expect(codes(await stage.provision())).toEqual(['warning kafka.out-of-sync orders'])
  })

  it('works for a user who may not describe topics', async () => {
    const stage = new Stage().withSource([0n])
    stage.admin.forbidden.add('describe')
    const found = codes(await stage.provision())
    expect(found).toEqual(['info kafka.settings-unseen orders'])
    expect(stage.admin.made).toContain('orders.billing.dead')
  })
})

describe('a group that is declared', () => {
  it("starts at the ends when it is new: 'now'", async () => {
    const stage = new Stage().withSource([7n, 0n])
    await stage.provision()
    expect(stage.admin.offsetsOf('orders.billing', 'orders')).toEqual([7n, 0n])
  })

  it('keeps the offsets it has', async () => {
    const stage = new Stage().withSource([7n, 7n])
    await stage.provision()
    stage.admin.topic('orders').logs.forEach((log) => (log.end = 20n))
    await stage.provision()
    expect(stage.admin.offsetsOf('orders.billing', 'orders')).toEqual([7n, 7n])
  })

  it('gets all of a partition that was added later', async () => {
    const stage = new Stage().withSource([7n])
    await stage.provision()
    const topic = stage.admin.topic('orders')
    topic.partitions.push({ ...topic.partitions[0]!, partition: 1 })
    topic.logs.push({ begin: 2n, end: 30n, records: [] })
    await stage.provision()
    expect(stage.admin.offsetsOf('orders.billing', 'orders')).toEqual([7n, 2n])
  })

  it('starts at the oldest when it was declared before and its offsets are gone', async () => {
    const stage = new Stage().withSource([7n], [3n])
    await stage.provision()
    stage.admin.committed.clear()
    const found = await stage.provision()
    expect(codes(found)).toEqual(['warning kafka.offsets-expired orders.billing'])
    expect(stage.admin.offsetsOf('orders.billing', 'orders')).toEqual([3n])
  })

  it('is not declared as long as its dead-letter topic is missing', async () => {
    const stage = new Stage().withSource([7n], [3n])
    let dies = true
    stage.admin.before = (asked) => {
      if (asked === 'create orders.billing.dead' && dies) throw new Error('the process died')
    }
    await expect(stage.provision()).rejects.toThrow('died')
    stage.admin.committed.clear()
    dies = false
    expect(await stage.provision()).toEqual([])
    expect(stage.admin.offsetsOf('orders.billing', 'orders')).toEqual([7n])
  })

  it('is left alone while it has members', async () => {
    const stage = new Stage().withSource([7n])
    stage.admin.busy.add('orders.billing')
    await stage.provision()
    expect(stage.admin.offsetsOf('orders.billing', 'orders')).toEqual([null])
  })

  it.each(['latest orders', 'committed orders.billing', 'commit orders.billing'])(
    'skips nothing published after somebody else declared it, before: %s',
    async (moment) => {
      const stage = new Stage().withSource([5n])
      const other = new Stage({}, stage.admin)
      let raced: Promise<unknown> | null = null
      stage.admin.before = (asked) => {
        if (asked !== moment || raced !== null) return
        raced = Promise.resolve()
        // The other process declares the group and publishes, all of it before this one goes on.
        const { committed } = stage.admin
        if (!committed.has('orders.billing')) {
          committed.set('orders.billing', new Map([['orders/0', { offset: 5n, metadata: null }]]))
        }
        stage.admin.topic('orders').logs[0]!.end = 9n
      }
      await stage.provision()
      await other.provision()
      expect(stage.admin.offsetsOf('orders.billing', 'orders')).toEqual([5n])
    },
  )

  it('says what was deleted before it was consumed, and goes on', async () => {
    const stage = new Stage().withSource([20n])
    await stage.provision()
    const [log] = stage.admin.topic('orders').logs
    log!.begin = 25n
    log!.end = 30n
    const found = await stage.provision()
    expect(codes(found)).toEqual(['warning kafka.data-loss orders.billing'])
    expect(found[0]?.message).toMatch(/begins at 25, .* up to 20: 5 offsets were deleted/)
  })
})

describe("a consumer from 'earliest'", () => {
  it('gets what was there before its group was declared', async () => {
    const stage = new Stage().withSource([7n, 9n], [1n, 0n])
    await stage.provision()
    await rewind(stage.admin, 'orders.billing', 'orders')
    expect(stage.admin.offsetsOf('orders.billing', 'orders')).toEqual([1n, 0n])
  })

  it('goes on where its group is when that has consumed', async () => {
    const stage = new Stage().withSource([7n, 9n])
    await stage.provision()
    const offsets = [{ partition: 0, offset: 8n }]
    await stage.admin.setGroupOffsets('orders.billing', 'orders', offsets)
    await rewind(stage.admin, 'orders.billing', 'orders')
    expect(stage.admin.offsetsOf('orders.billing', 'orders')).toEqual([8n, 9n])
  })
})
