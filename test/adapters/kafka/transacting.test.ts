import { describe, expect, it } from 'vitest'

import type { ReceiverOptions } from '../../../adapters/kafka/receiver.ts'
import type { TopicLayout } from '../../../adapters/kafka/topics.ts'
import { CapabilityError, HoldfastError } from '../../../src/contract/errors.ts'
import { NO_HEADERS, type Envelope } from '../../../src/contract/message.ts'
import { numbers, part, ReceivingStage } from './receiving-stage.ts'

const LIMIT_MS = 5_000
const MOST_BYTES = 10_000

/** A topic with as many partitions as its name says last; others are not there. */
const produces: NonNullable<ReceiverOptions['produces']> = {
  topics: {
    topicOf: (to) => {
      if (to.kind === 'topic') return to.topic
      throw new CapabilityError('only topics here')
    },
    look: async (topic) => {
      const count = Number(topic.split('-')[1])
      if (Number.isNaN(count)) return null
      const leaders = Array.from({ length: count }, () => 1)
      const layout = { topic, leaders, maxMessageBytes: MOST_BYTES, compression: 'producer' }
      return layout as TopicLayout
    },
  },
  limits: () => ({ maxBodyBytes: MOST_BYTES }),
  options: { partitioner: 'java', frozenPartitionCount: new Map() },
}

function message(body: string, { topic = 'out-1', key = null as string | null } = {}): Envelope {
  return {
    id: body,
    type: 'test',
    producer: 'test',
    contentType: 'text/plain',
    timeMs: 0,
    to: { kind: 'topic', topic },
    key: key === null ? null : Buffer.from(key),
    orderKey: key,
    headers: NO_HEADERS,
    body: Buffer.from(body),
    deliverAtMs: null,
  } as unknown as Envelope
}

class Stage extends ReceivingStage {
  override produces: ReceiverOptions['produces'] = produces

  constructor() {
    super({ txn: 'fenced' })
  }

  static async with(count: number): Promise<Stage> {
    const stage = new Stage()
    stage.driver.append('orders/0', numbers(count))
    await stage.receive({ ordering: 'partition' })
    return stage
  }

  /** Settles what came with these bodies together with the messages. */
  transact(bodies: readonly string[], produced: readonly Envelope[]): Promise<string> {
    const { transact } = this.receiver
    if (transact === undefined) throw new Error('there are no transactions')
    const done = bodies.map((body) => this.of(body).delivery)
    return this.clock.run(transact(done, produced, this.clock.now() + LIMIT_MS))
  }

  get written(): string[] {
    return this.driver.written.flatMap(({ records }) => records.map(({ value }) => String(value)))
  }
}

describe('a transaction', () => {
  it('writes what was published, and commits behind what was settled', async () => {
    const stage = await Stage.with(3)
    expect(await stage.transact(['0', '1'], [message('a'), message('b')])).toBe('committed')
    expect(stage.written).toEqual(['a', 'b'])
    expect(stage.committed()).toBe(2n)
    const next = await stage.transact(['2'], [])
    expect([next, stage.committed()]).toEqual(['committed', 3n])
    await stage.clock.run(stage.receiver.flush(stage.clock.now() + LIMIT_MS))
    await stage.close()
    expect(stage.committed()).toBe(3n)
  })

  it('takes the first that are open of one partition, and no others', async () => {
    const stage = await Stage.with(4)
    expect(await stage.transact(['1'], [message('a')])).toBe('aborted')
    expect(await stage.transact(['0', '2'], [message('a')])).toBe('aborted')
    stage.ack('0')
    expect(await stage.transact(['0', '1'], [message('a')])).toBe('aborted')
    expect(stage.written).toEqual([])
    expect(await stage.transact(['1'], [message('b')])).toBe('committed')
    expect(stage.committed()).toBe(2n)
    await stage.close()
  })

  it('keeps what is done beyond it', async () => {
    const stage = await Stage.with(4)
    stage.ack('2')
    expect(await stage.transact(['0'], [message('a')])).toBe('committed')
    expect(stage.committed()).toBe(1n)
    expect(await stage.transact(['1'], [message('b')])).toBe('committed')
    expect(stage.committed()).toBe(3n)
    await stage.close()
  })

  it('that is aborted leaves everything as it was', async () => {
    const stage = await Stage.with(2)
    stage.driver.transactions = ['aborted']
    expect(await stage.transact(['0', '1'], [message('a')])).toBe('aborted')
    expect([stage.committed(), stage.written]).toEqual([0n, []])
    expect(await stage.transact(['0', '1'], [message('a')])).toBe('committed')
    expect([stage.committed(), stage.written]).toEqual([2n, ['a']])
    await stage.close()
  })

  it.each([
    ['unknown', ['0', '1']],
    ['unknown, and committed', []],
  ] as const)('whose end is %s hands out again what the broker has not', async (end, again) => {
    const stage = await Stage.with(2)
    stage.driver.transactions = [end]
    expect(await stage.transact(['0', '1'], [message('a')])).toBe('unknown')
    await stage.clock.settle()
    expect(stage.listener.lostSources).toHaveLength(1)
    expect(stage.bodies.slice(2)).toEqual(again)
    stage.driver.append('orders/0', ['new'])
    await stage.clock.settle()
    expect(stage.bodies.slice(2)).toEqual([...again, 'new'])
    await stage.close()
  })

  it('is the only one that commits its partition meanwhile', async () => {
    const stage = new Stage()
    for (const name of ['orders/0', 'orders/1'])
      stage.driver.append(name, [`${name} a`, `${name} b`])
    await stage.receive({ parts: [part(0), part(1)], ordering: 'partition' })
    let open = (): void => undefined
    stage.driver.transactGate = new Promise((resolve) => (open = resolve))
    const running = stage.transact(['orders/0 a'], [message('a')])
    await stage.clock.settle()
    const before = stage.driver.commits.length
    stage.ack('orders/0 b', 'orders/1 a')
    await stage.clock.advance(2_000)
    const since = stage.driver.commits.slice(before).flat()
    expect(since.map(({ partition }) => partition)).toEqual([1])
    expect([stage.committed('orders/0'), stage.committed('orders/1')]).toEqual([0n, 1n])
    open()
    expect(await running).toBe('committed')
    await stage.clock.advance(2_000)
    expect(stage.committed('orders/0')).toBe(2n)
    await stage.close()
  })

  it('waits for a commit that is on its way', async () => {
    const stage = await Stage.with(3)
    let open = (): void => undefined
    stage.driver.commitGate = new Promise((resolve) => (open = resolve))
    stage.ack('0')
    await stage.clock.advance(1_000)
    const running = stage.transact(['1'], [message('a')])
    await stage.clock.settle()
    expect(stage.written).toEqual([])
    open()
    expect(await running).toBe('committed')
    expect(stage.committed()).toBe(2n)
    await stage.close()
  })

  it('waits for another generation when a commit was not answered', async () => {
    const stage = await Stage.with(3)
    stage.driver.commitTroubles = [new HoldfastError('timeout', 'no answer')]
    stage.ack('0')
    await stage.clock.advance(1_000)
    expect(stage.driver.consumer.renewed).toBe(1)
    expect(await stage.transact(['1'], [message('a')])).toBe('aborted')
    expect(stage.written).toEqual([])
    stage.driver.consumer.assign([part(0)])
    expect(await stage.transact(['1'], [message('a')])).toBe('committed')
    expect([stage.committed(), stage.driver.consumer.renewed]).toEqual([2n, 1])
    await stage.close()
  })

  it('does not mind a commit that was refused', async () => {
    const stage = await Stage.with(3)
    stage.driver.commitTroubles = [new HoldfastError('unavailable', 'being divided anew')]
    stage.ack('0')
    await stage.clock.advance(1_000)
    expect(await stage.transact(['1'], [message('a')])).toBe('committed')
    expect(stage.driver.consumer.renewed).toBe(0)
    await stage.close()
  })

  it('of a partition that is somebody else’s is aborted', async () => {
    const stage = await Stage.with(2)
    const { delivery } = stage.of('0')
    stage.driver.consumer.assign([part(1)])
    await stage.clock.settle()
    const by = stage.clock.now() + LIMIT_MS
    const ended = stage.clock.run(stage.receiver.transact!([delivery], [message('a')], by))
    expect(await ended).toBe('aborted')
    expect(stage.written).toEqual([])
    await stage.close()
  })

  it('with a message that cannot be published is aborted, and says why', async () => {
    const stage = await Stage.with(1)
    const nowhere = message('a', { topic: 'nowhere' })
    expect(await stage.transact(['0'], [message('b'), nowhere])).toBe('aborted')
    const large = message('x'.repeat(MOST_BYTES + 1))
    expect(await stage.transact(['0'], [large])).toBe('aborted')
    expect(stage.written).toEqual([])
    const told = stage.events.flatMap((one) => (one.type === 'warning' ? [one.message] : []))
    expect(told.join('\n')).toMatch(/has no topic "nowhere"[^]*has 10001 bytes/)
    await stage.close()
  })

  it('writes one batch per partition and request, none too large, in order', async () => {
    const stage = await Stage.with(1)
    const body = (n: number): string => `${n} ${'x'.repeat(3_000)}`
    const produced = Array.from({ length: 7 }, (_, n) => message(body(n), { key: 'k' }))
    const other = message('other', { topic: 'two-1' })
    expect(await stage.transact(['0'], [...produced, other])).toBe('committed')
    const keyed = stage.driver.written.filter(({ topic }) => topic === 'out-1')
    expect(keyed.length).toBeGreaterThan(2)
    expect(keyed.flatMap(({ records }) => records.map(({ value }) => String(value)[0]))).toEqual(
      numbers(7),
    )
    await stage.close()
  })

  it('is not there where transactions are not fenced', async () => {
    const stage = new ReceivingStage({ txn: 'unfenced' })
    stage.produces = produces
    await stage.receive()
    expect(stage.receiver.transact).toBeUndefined()
    await stage.close()
  })
})
