import { describe, expect, it } from 'vitest'

import { KafkaInspector } from '../../../adapters/kafka/inspector.ts'
import { encodeProgress } from '../../../adapters/kafka/offset-metadata.ts'
import { resolveOptions } from '../../../adapters/kafka/options.ts'
import { TopicTable } from '../../../adapters/kafka/topics.ts'
import { systemClock } from '../../../src/contract/clock.ts'
import { silent } from '../../../src/contract/events.ts'
import type { Envelope } from '../../../src/contract/message.ts'
import { FakeAdmin } from './fake-admin.ts'

const GROUP = { kind: 'group', topic: 'orders', group: 'g', delayMs: 0 } as const

/** A cluster with a topic of two partitions, and an inspector that shows values as ids. */
class Stage {
  readonly admin = new FakeAdmin()
  readonly topics: TopicTable
  readonly inspector: KafkaInspector

  constructor() {
    const options = resolveOptions({ brokers: 'a' })
    const { admin } = this
    this.topics = new TopicTable({ admin, clock: systemClock, emit: silent, options })
    const insight = {
      admin,
      topics: this.topics,
      open: ({ value }: { value: Buffer | null }) => ({ id: String(value) }) as Envelope,
    }
    this.inspector = new KafkaInspector(() => insight)
    this.fill('orders', 0, 0n, 'a1', 'a3', 'a5')
    this.fill('orders', 1, 0n, 'b2', 'b4')
  }

  /** Records whose value ends with their timestamp. */
  fill(topic: string, partition: number, begin: bigint, ...values: string[]): void {
    const { admin } = this
    if (!admin.known.has(topic)) admin.add(topic, { partitions: 2, replication: 1, config: {} })
    admin.topic(topic).logs[partition] = {
      begin,
      end: begin + BigInt(values.length),
      records: values.map((value, index) => ({
        offset: begin + BigInt(index),
        key: null,
        value: Buffer.from(value),
        headers: [],
        timestampMs: Number(value.slice(1)),
      })),
    }
  }

  async ids(to: Parameters<KafkaInspector['browse']>[0], limit = 100): Promise<unknown[]> {
    return (await this.inspector.browse(to, limit)).map(({ id }) => id)
  }

  commit(offset: bigint, metadata?: string): Promise<void> {
    const at = { partition: 0, offset, ...(metadata === undefined ? {} : { metadata }) }
    return this.admin.setGroupOffsets('orders.g', 'orders', [at])
  }
}

describe('the inspector', () => {
  it('counts and shows what a group without offsets has not finished: everything', async () => {
    const { inspector, ...stage } = new Stage()
    expect(await inspector.depth(GROUP)).toBe(5)
    expect(stage.admin.made).toEqual([])
  })

  it('shows the oldest first, across partitions', async () => {
    const stage = new Stage()
    expect(await stage.ids(GROUP)).toEqual(['a1', 'b2', 'a3', 'b4', 'a5'])
    expect(await stage.ids(GROUP, 2)).toEqual(['a1', 'b2'])
  })

  it('leaves out what is committed, and what is done beyond that', async () => {
    const stage = new Stage()
    await stage.commit(1n)
    expect(await stage.inspector.depth(GROUP)).toBe(4)
    // Of a partition that is read from 0 on, the second is not done, the others are.
    const { text } = encodeProgress(0n, { handedTo: 3, doneTo: 3, open: [1] })
    await stage.commit(0n, text)
    expect(await stage.inspector.depth(GROUP)).toBe(3)
    expect(await stage.ids(GROUP)).toEqual(['b2', 'a3', 'b4'])
  })

  it('counts from the first that is kept when what was committed is deleted', async () => {
    const stage = new Stage()
    await stage.commit(0n)
    stage.fill('orders', 0, 7n, 'a7')
    expect(await stage.inspector.depth(GROUP)).toBe(3)
  })

  it('counts replays with their group, and retries by their delay', async () => {
    const stage = new Stage()
    stage.fill('orders.g.retry.0', 0, 0n, 'r6')
    stage.fill('orders.g.retry.1000', 1, 0n, 's7', 's8')
    stage.topics.declare({
      name: 'orders',
      groups: ['g'],
      partitions: null,
      ordering: 'key',
      retryLevelsMs: [1_000],
    })
    expect(await stage.inspector.depth(GROUP)).toBe(6)
    expect(await stage.ids({ ...GROUP, delayMs: 1_000 })).toEqual(['s7', 's8'])
    expect(await stage.inspector.depth({ kind: 'topic', topic: 'orders' })).toBe(8)
  })

  it('shows the dead letters that are kept', async () => {
    const stage = new Stage()
    const dead = { kind: 'dead', topic: 'orders', group: 'g' } as const
    await expect(stage.inspector.depth(dead)).rejects.toThrow(/no topic/)
    stage.fill('orders.g.dead', 1, 3n, 'd1', 'd2')
    expect(await stage.inspector.depth(dead)).toBe(2)
    expect(await stage.ids(dead)).toEqual(['d1', 'd2'])
    await expect(stage.inspector.depth({ kind: 'reply', address: 'x' })).rejects.toThrow(/replies/)
  })

  it('reads on until it has as many as are asked for', async () => {
    const stage = new Stage()
    const { read } = stage.admin
    stage.admin.read = (at, from) => read.call(stage.admin, at, from, 1)
    expect(await stage.ids(GROUP, 4)).toEqual(['a1', 'b2', 'a3', 'b4'])
  })
})
