import { describe, expect, it } from 'vitest'

import { BATCH_OVERHEAD, writeBatch } from '../../../adapters/kafka/batch-writer.ts'
import { ByteWriter } from '../../../adapters/kafka/byte-writer.ts'
import type { LogRange, TopicPartition } from '../../../adapters/kafka/driver.ts'
import { Fetching } from '../../../adapters/kafka/fetching.ts'
import type {
  FetchAnswers,
  FetchLimits,
  FetchPart,
} from '../../../adapters/kafka/fetch-protocol.ts'
import type { GroupLink } from '../../../adapters/kafka/group-link.ts'
import { nameOf } from '../../../adapters/kafka/part-name.ts'
import { HoldfastError } from '../../../src/contract/errors.ts'
import { seededRandom } from '../../support/seeded-random.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'
import { specOf } from './test-member.ts'

const part = (partition: number, topic = 'orders'): TopicPartition => ({ topic, partition })

/** One batch at an offset, as a broker has it. */
function batchAt(offset: bigint, values: readonly string[]): Buffer {
  const writer = new ByteWriter()
  const identity = { producerId: -1n, producerEpoch: -1, sequence: -1, nowMs: 1_000 }
  const records = values.map((value) => {
    return { key: null, value: Buffer.from(value), headers: [], timestampMs: null }
  })
  writeBatch(writer, records, identity)
  const batch = Buffer.from(writer.written)
  batch.writeBigInt64BE(offset)
  return batch
}

/** Nodes that answer what a test says. */
class FakeNodes implements Partial<GroupLink> {
  readonly clock: VirtualClock
  readonly leaders: Map<string, Map<number, number>> = new Map()
  readonly logs: Map<string, string[]> = new Map()
  readonly asked: { node: number; names: string[]; offsets: bigint[]; waitMs: number }[] = []
  readonly cutOff: number[] = []
  readonly errors: Map<string, number> = new Map()
  readonly hanging: Set<number> = new Set()
  range: LogRange = { begin: 0n, end: 0n }
  throttleMs = 0
  refreshes = 0
  refreshed: readonly string[] = []
  onRefresh: () => void = () => undefined

  constructor(clock: VirtualClock) {
    this.clock = clock
  }

  lead(node: number, ...parts: TopicPartition[]): void {
    for (const { topic, partition } of parts) {
      const leaders = this.leaders.get(topic) ?? new Map<number, number>()
      leaders.set(partition, node)
      this.leaders.set(topic, leaders)
    }
  }

  leadersOf(topic: string): ReadonlyMap<number, number> | null {
    return this.leaders.get(topic) ?? null
  }

  async refresh(topics: readonly string[]): Promise<void> {
    this.refreshes++
    this.refreshed = topics
    this.onRefresh()
  }

  async logOf(): Promise<LogRange> {
    return this.range
  }

  cut(node: number): void {
    this.cutOff.push(node)
    this.hanging.delete(node)
  }

  fetch(
    node: number,
    parts: readonly FetchPart[],
    { maxWaitMs }: FetchLimits,
    deadline: number,
  ): Promise<FetchAnswers> {
    const [names, offsets] = [parts.map(nameOf), parts.map(({ offset }) => offset)]
    this.asked.push({ node, names, offsets, waitMs: maxWaitMs })
    return new Promise((resolve, reject) => {
      if (this.hanging.has(node)) {
        const late = new HoldfastError('timeout', 'no answer')
        return void this.clock.after(deadline - this.clock.now(), () => reject(late))
      }
      const answer = this.#answer(parts)
      const isEmpty = answer.parts.every(({ records, error }) => records.length + error === 0)
      // What finds nothing waits as long as it may.
      this.clock.after(isEmpty ? maxWaitMs : 1, () => {
        resolve(isEmpty ? this.#answer(parts) : answer)
      })
    })
  }

  #answer(parts: readonly FetchPart[]): FetchAnswers {
    const answers = parts.map((one) => {
      const log = this.logs.get(nameOf(one)) ?? []
      const values = log.slice(Number(one.offset), Number(one.offset) + 10)
      const error = this.errors.get(nameOf(one)) ?? 0
      return {
        topic: one.topic,
        partition: one.partition,
        error,
        highWatermark: BigInt(log.length),
        logStart: 0n,
        aborted: [],
        records: values.length === 0 || error !== 0 ? Buffer.alloc(0) : batchAt(one.offset, values),
      }
    })
    return { throttleMs: this.throttleMs, error: 0, parts: answers }
  }
}

class Stage {
  readonly clock: VirtualClock = new VirtualClock()
  readonly nodes: FakeNodes = new FakeNodes(this.clock)
  readonly got: string[] = []
  readonly failures: HoldfastError[] = []
  readonly outOfRange: string[] = []
  readonly troubled: (string | null)[] = []
  readonly fetching: Fetching
  onRecords: (name: string) => void = () => undefined

  constructor() {
    this.fetching = new Fetching({
      link: this.nodes as unknown as GroupLink,
      spec: specOf(['orders'], { maxWaitMs: 500 }),
      clock: this.clock,
      random: seededRandom(1),
      decompress: () => Promise.reject(new HoldfastError('missing-package', 'npm install it')),
      epoch: () => 1,
      requestTimeoutMs: 5_000,
      listener: {
        records: (_, one, records) => {
          this.got.push(...records.map(({ value }) => `${one.partition}:${value?.toString()}`))
          this.onRecords(nameOf(one))
        },
        outOfRange: (_, one, asked, { begin, end }) => {
          this.outOfRange.push(`${nameOf(one)} ${asked} of ${begin} to ${end}`)
        },
        troubled: (_, trouble) => void this.troubled.push(trouble),
        failed: (error) => void this.failures.push(error),
      },
    })
  }

  read(...parts: TopicPartition[]): this {
    this.fetching.allow(parts)
    for (const one of parts) this.fetching.seek(one, 0n)
    return this
  }

  of(partition: number): string[] {
    return this.got.filter((one) => one.startsWith(`${partition}:`))
  }
}

const numbers = (count: number): string[] => Array.from({ length: count }, (_, n) => String(n))

describe('fetching', () => {
  it('writes batches here that have the head that is read', () => {
    expect(batchAt(7n, ['x']).length).toBeGreaterThan(BATCH_OVERHEAD)
  })

  it('reads every partition from its leader, in order', async () => {
    const stage = new Stage()
    stage.nodes.lead(1, part(0), part(2))
    stage.nodes.lead(2, part(1))
    for (const n of [0, 1, 2]) stage.nodes.logs.set(`orders/${n}`, numbers(25))
    stage.read(part(0), part(1), part(2))
    await stage.clock.advance(100)
    for (const n of [0, 1, 2]) expect(stage.of(n)).toEqual(numbers(25).map((one) => `${n}:${one}`))
    expect(new Set(stage.nodes.asked.map(({ node }) => node))).toEqual(new Set([1, 2]))
    stage.fetching.close()
  })

  it('is not held up by a node that hangs, and cuts that off', async () => {
    const stage = new Stage()
    stage.nodes.lead(1, part(0))
    stage.nodes.lead(2, part(1))
    stage.nodes.hanging.add(1)
    stage.nodes.logs.set('orders/0', numbers(5))
    stage.nodes.logs.set('orders/1', numbers(500))
    stage.read(part(0), part(1))
    await stage.clock.advance(1_000)
    expect(stage.of(1)).toHaveLength(500)
    await stage.clock.advance(6_000)
    expect(stage.nodes.cutOff).toEqual([1])
    expect(stage.nodes.refreshes).toBeGreaterThan(0)
    expect(stage.of(0)).toHaveLength(5)
    stage.fetching.close()
  })

  it('fails, and is not silent, when something goes wrong that nobody has thought of', async () => {
    const stage = new Stage()
    stage.nodes.lead(1, part(0))
    stage.read(part(0))
    await stage.clock.advance(100)
    stage.nodes.leadersOf = () => {
      throw new Error('unheard of')
    }
    await stage.clock.advance(1_000)
    expect(stage.failures[0]?.message).toContain('unheard of')
  })

  it('follows a leader that moves, without a word to anybody', async () => {
    const stage = new Stage()
    stage.nodes.lead(1, part(0))
    stage.nodes.logs.set('orders/0', numbers(5))
    stage.nodes.errors.set('orders/0', 6)
    stage.nodes.onRefresh = () => {
      stage.nodes.lead(2, part(0))
      stage.nodes.errors.clear()
    }
    stage.read(part(0))
    await stage.clock.advance(1_000)
    expect(stage.of(0)).toHaveLength(5)
    expect(stage.nodes.asked.at(-1)?.node).toBe(2)
    expect(stage.failures).toEqual([])
    stage.fetching.close()
  })

  it('looks up the leaders of topics that were subscribed to later', async () => {
    const stage = new Stage()
    const retry = { topic: 'orders.g.retry.1000', partition: 0 }
    stage.nodes.logs.set('orders.g.retry.1000/0', ['a'])
    stage.nodes.onRefresh = () => {
      if (stage.nodes.refreshed.includes(retry.topic)) stage.nodes.lead(1, retry)
    }
    stage.fetching.allow([retry])
    stage.fetching.seek(retry, 0n)
    await stage.clock.advance(1_000)
    expect(stage.got).toEqual(['0:a'])
    stage.fetching.close()
  })

  it('takes what an answer has of others when one partition of it has an error', async () => {
    const stage = new Stage()
    stage.nodes.lead(1, part(0), part(1))
    stage.nodes.logs.set('orders/1', numbers(5))
    stage.nodes.errors.set('orders/0', 56)
    stage.read(part(0), part(1))
    await stage.clock.advance(500)
    expect(stage.of(1)).toHaveLength(5)
    stage.fetching.close()
  })

  it('leaves out what is paused, and what nobody has said where to read', async () => {
    const stage = new Stage()
    stage.nodes.lead(1, part(0), part(1), part(2))
    for (const n of [0, 1, 2]) stage.nodes.logs.set(`orders/${n}`, numbers(5))
    stage.fetching.allow([part(0), part(1), part(2)])
    stage.fetching.seek(part(0), 0n)
    stage.fetching.seek(part(1), 0n)
    stage.fetching.pause([part(1)])
    await stage.clock.advance(3_000)
    expect(stage.got).toEqual(numbers(5).map((one) => `0:${one}`))
    stage.fetching.resume([part(1)])
    await stage.clock.advance(600)
    expect(stage.of(1)).toHaveLength(5)
    stage.fetching.close()
  })

  it('keeps nobody waiting that was let in again: a fetch beside it is short', async () => {
    const stage = new Stage()
    stage.nodes.lead(1, part(0), part(1))
    stage.nodes.logs.set('orders/0', numbers(1_000))
    // The other partition is empty: a fetch of it alone waits as long as it may.
    stage.onRecords = (name) => {
      stage.fetching.pause([{ topic: 'orders', partition: Number(name.slice(-1)) }])
      stage.clock.after(5, () => stage.fetching.resume([part(0)]))
    }
    stage.read(part(0), part(1))
    await stage.clock.advance(4_000)
    expect(stage.of(0)).toHaveLength(1_000)
    stage.fetching.close()
  })

  it('goes back to long waits when what is left out stays out', async () => {
    const stage = new Stage()
    stage.nodes.lead(1, part(0), part(1))
    stage.read(part(0), part(1))
    stage.fetching.pause([part(0)])
    await stage.clock.advance(10_000)
    expect(stage.nodes.asked.length).toBeLessThan(60)
    expect(stage.nodes.asked.at(-1)?.waitMs).toBe(500)
    stage.fetching.close()
  })

  it('begins each request with another partition', async () => {
    const stage = new Stage()
    stage.nodes.lead(1, part(0), part(1), part(2))
    for (const n of [0, 1, 2]) stage.nodes.logs.set(`orders/${n}`, numbers(200))
    stage.read(part(0), part(1), part(2))
    await stage.clock.advance(10)
    const first = new Set(stage.nodes.asked.map(({ names }) => names[0]))
    expect(first.size).toBe(3)
    stage.fetching.close()
  })

  it('drops what comes for a place that nobody wants any more', async () => {
    const stage = new Stage()
    stage.nodes.lead(1, part(0))
    stage.nodes.logs.set('orders/0', numbers(30))
    stage.read(part(0))
    await stage.clock.settle()
    stage.fetching.seek(part(0), 20n)
    await stage.clock.advance(100)
    expect(stage.of(0)).toEqual(
      numbers(30)
        .slice(20)
        .map((one) => `0:${one}`),
    )
    stage.fetching.allow([])
    stage.nodes.logs.get('orders/0')!.push('later')
    await stage.clock.advance(2_000)
    expect(stage.of(0)).toHaveLength(10)
    stage.fetching.close()
  })

  it('asks where to go on when the log has nothing there', async () => {
    const stage = new Stage()
    stage.nodes.lead(1, part(0))
    stage.nodes.errors.set('orders/0', 1)
    stage.nodes.range = { begin: 7n, end: 9n }
    stage.read(part(0))
    await stage.clock.advance(2_000)
    expect(stage.outOfRange).toEqual(['orders/0 0 of 7 to 9'])
    const before = stage.nodes.asked.length
    stage.nodes.errors.clear()
    await stage.clock.advance(2_000)
    expect(stage.nodes.asked.length).toBe(before)
    stage.fetching.seek(part(0), 7n)
    await stage.clock.advance(100)
    expect(stage.nodes.asked.at(-1)?.offsets).toEqual([7n])
    stage.fetching.close()
  })

  it('takes a topic for gone only after a while', async () => {
    const stage = new Stage()
    stage.nodes.lead(1, part(0))
    stage.nodes.errors.set('orders/0', 3)
    stage.read(part(0))
    await stage.clock.advance(2_500)
    expect(stage.failures).toEqual([])
    await stage.clock.advance(3_000)
    expect(stage.failures).toHaveLength(1)
    expect(stage.failures[0]).toMatchObject({ code: 'destination-gone', topic: 'orders' })
    expect(stage.clock.timers).toBeLessThan(5)
  })

  it('fails where a batch cannot be read, and says what to install', async () => {
    const stage = new Stage()
    stage.nodes.lead(1, part(0))
    stage.nodes.logs.set('orders/0', ['x'])
    const fetch = stage.nodes.fetch.bind(stage.nodes)
    stage.nodes.fetch = async (...args) => {
      const answers = await fetch(...args)
      for (const { records } of answers.parts) if (records.length > 0) records[22] = 2
      return answers
    }
    stage.read(part(0))
    await stage.clock.advance(100)
    expect(stage.failures[0]).toMatchObject({ code: 'missing-package', message: 'npm install it' })
  })

  describe('that does not get on is told', () => {
    it('where a leader cannot be reached, and when it can', async () => {
      const stage = new Stage()
      stage.nodes.lead(1, part(0))
      stage.nodes.lead(2, part(1))
      stage.nodes.logs.set('orders/1', numbers(5))
      const fetch = stage.nodes.fetch.bind(stage.nodes)
      stage.nodes.fetch = (...args) =>
        args[0] === 1 ? Promise.reject(new Error('connection refused')) : fetch(...args)
      stage.read(part(0), part(1))
      await stage.clock.advance(4_000)
      expect(stage.troubled).toEqual([])
      await stage.clock.advance(2_100)
      expect(stage.troubled).toEqual([
        expect.stringMatching(
          /^partition 0 of topic "orders" could not be read for \d s: its leader, node 1: connection refused$/,
        ),
      ])
      stage.nodes.fetch = fetch
      await stage.clock.advance(2_000)
      expect(stage.troubled.slice(1)).toEqual([null])
      stage.fetching.close()
    })

    it('where it hangs', async () => {
      const stage = new Stage()
      stage.nodes.lead(1, part(0))
      stage.nodes.hanging.add(1)
      stage.nodes.cut = () => undefined
      stage.read(part(0))
      await stage.clock.advance(12_000)
      expect(stage.troubled).toEqual([expect.stringContaining('node 1: no answer')])
      stage.fetching.close()
      expect(stage.troubled.at(-1)).toBeNull()
    })

    it('where there is none', async () => {
      const stage = new Stage()
      stage.nodes.lead(1, part(0))
      stage.nodes.lead(-1, part(1), part(2))
      stage.read(part(0), part(1), part(2))
      await stage.clock.advance(6_500)
      expect(stage.troubled).toEqual([
        'partition 1 of topic "orders" could not be read for 5 s, like 1 others: it has no leader',
      ])
      stage.nodes.lead(1, part(1), part(2))
      await stage.clock.advance(1_500)
      expect(stage.troubled.slice(1)).toEqual([null])
      stage.fetching.close()
    })

    it('where a node has trouble with it, for as long as it is to be read', async () => {
      const stage = new Stage()
      stage.nodes.lead(1, part(0), part(1))
      stage.nodes.errors.set('orders/0', 56)
      stage.read(part(0), part(1))
      await stage.clock.advance(7_000)
      expect(stage.troubled).toEqual([expect.stringContaining('KAFKA_STORAGE_ERROR')])
      stage.fetching.pause([part(0)])
      expect(stage.troubled.slice(1)).toEqual([null])
      stage.fetching.resume([part(0)])
      await stage.clock.advance(7_000)
      expect(stage.troubled).toHaveLength(3)
      stage.fetching.allow([part(1)])
      expect(stage.troubled.slice(3)).toEqual([null])
      stage.fetching.close()
    })
  })

  it('leaves a broker alone for as long as it asks', async () => {
    const stage = new Stage()
    stage.nodes.lead(1, part(0))
    stage.nodes.logs.set('orders/0', numbers(100))
    stage.nodes.throttleMs = 1_000
    stage.read(part(0))
    await stage.clock.advance(5_100)
    expect(stage.nodes.asked.length).toBeLessThanOrEqual(6)
    stage.fetching.close()
  })

  it('leaves nothing behind when it is closed', async () => {
    const stage = new Stage()
    stage.nodes.lead(1, part(0))
    stage.read(part(0))
    await stage.clock.advance(700)
    stage.fetching.close()
    await stage.clock.advance(5_000)
    expect(stage.clock.timers).toBe(0)
    const before = stage.nodes.asked.length
    await stage.clock.advance(5_000)
    expect(stage.nodes.asked.length).toBe(before)
  })
})
