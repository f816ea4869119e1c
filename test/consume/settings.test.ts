import { describe, expect, it } from 'vitest'
import { memory, memoryInbox, memoryOutbox } from '../../adapters/memory/index.ts'
import { topic } from '../../src/contract/topic.ts'
import { ReliableConsumer } from '../../src/consume/consumer.ts'
import { checkCapabilities, resolveOptions } from '../../src/consume/settings.ts'
import type { Capabilities } from '../../src/contract/capabilities.ts'
import { Loose, Orders } from './stage.ts'

const broker = memory()
const good = { broker, topic: Orders, group: 'billing', handler: () => undefined }
const partitioned = topic('whole', { ordering: 'partition' })

function refusal(given: object): string {
  try {
    new ReliableConsumer({ ...good, ...given } as never)
  } catch (error) {
    return (error as Error).message
  }
  return 'accepted'
}

describe('the options of a consumer', () => {
  it.each([
    [
      { concurency: 3 },
      'consumer.concurency: got 3; allowed: no option of that name, only: broker, topic',
    ],
    [{ broker: {} }, 'broker: got an object; allowed: a broker'],
    [{ topic: 'orders' }, 'topic: got "orders"; allowed: what topic('],
    [{ topic: [] }, 'topic: got an array; allowed: at least one topic'],
    [{ topic: [Orders, Orders] }, 'topic: got "orders"; allowed: each topic once'],
    [{ group: 'a.b' }, 'group name "a.b"'],
    [{ group: 'dead' }, 'group name "dead"'],
    [{ handler: 3 }, 'handler: got 3; allowed: a function'],
    [{ handler: undefined }, 'handler: got undefined; allowed: a function'],
    [{ middleware: [1] }, 'middleware[0]: got 1; allowed: a function'],
    [{ concurrency: 0 }, 'concurrency: got 0; allowed: a whole number, 1 to 10000'],
    [{ concurrency: 1.5 }, 'concurrency: got 1.5'],
    [{ prefetch: { messages: 0 } }, 'prefetch.messages: got 0; allowed: a whole number, 1 or more'],
    [
      { prefetch: { count: 1 } },
      'prefetch.count: got 1; allowed: no option of that name, only: messages, bytes',
    ],
    [{ handlerTimeoutMs: -1 }, 'handlerTimeoutMs: got -1'],
    [{ retry: { attempts: 0 } }, 'retry.attempts: got 0'],
    [{ retry: { backoff: 5 } }, 'retry.backoff: got 5'],
    [{ onExhausted: 'drop' }, "onExhausted: got \"drop\"; allowed: 'dead-letter', 'discard'"],
    [{ onLaneFull: 'drop' }, "onLaneFull: got \"drop\"; allowed: 'stop', 'park'"],
    [{ from: 'yesterday' }, "from: got \"yesterday\"; allowed: 'now', 'earliest'"],
    [{ ordering: 'partition' }, 'ordering: got "partition"; allowed: at most \'key\''],
    [{ requireId: 'yes' }, 'requireId: got "yes"; allowed: true, false'],
    [{ identify: true }, 'identify: got true; allowed: a function'],
    [{ batch: { maxMessages: 0, maxWaitMs: 1 } }, 'batch.maxMessages: got 0'],
    [
      { batch: { maxMessages: 600, maxWaitMs: 1 } },
      'batch.maxMessages: got 600; allowed: a whole number, 1 to 512',
    ],
    [{ transactionSize: 1_000 }, 'transactionSize: got 1000; allowed: a whole number, 1 to 512'],
    [{ breaker: { resetMs: 0 } }, 'breaker.resetMs: got 0'],
    [{ topology: 'drop' }, "topology: got \"drop\"; allowed: 'create', 'verify', 'none'"],
    [{ topics: { orders: { retryLevelsMs: [0] } } }, 'topics.orders.retryLevelsMs: got 0'],
    [{ topics: { orders: { partitions: 0 } } }, 'topics.orders.partitions: got 0'],
    [{ topics: { orders: { queues: 1 } } }, 'topics.orders.queues: got 1'],
    [{ inbox: {} }, 'inbox: got an object; allowed: an inbox store'],
    [{ inbox: null }, 'inbox: got null; allowed: an inbox store'],
    [{ outbox: 5 }, 'outbox: got 5; allowed: an outbox store'],
    [{ attempts: 5 }, 'attempts: got 5; allowed: an attempt store'],
    [{ on: 5 }, 'on: got 5; allowed: a function'],
    [{ logging: null }, "logging: got null; allowed: 'silent'"],
    [{ clock: 5 }, 'clock: got 5; allowed: a Clock'],
    [{ prefetch: 5 }, 'prefetch: got 5; allowed: an object'],
    [{ prefetch: null }, 'prefetch: got null; allowed: an object'],
    [{ batch: null }, 'batch: got null; allowed: an object'],
    [{ breaker: null }, 'breaker: got null; allowed: an object'],
    [{ retry: null }, 'retry: got null; allowed: an object'],
    [{ retry: 5 }, 'retry: got 5; allowed: an object'],
    [{ topics: 5 }, 'topics: got 5; allowed: an object'],
    [{ topics: { orders: null } }, 'topics.orders: got null; allowed: an object'],
    [{ topics: { orders: { groups: 5 } } }, 'topics.orders.groups: got 5; allowed: a list'],
    [{ topics: { orders: { retryLevelsMs: 5 } } }, 'retryLevelsMs: got 5; allowed: a list'],
    [{ middleware: 5 }, 'middleware: got 5; allowed: a list'],
    [{ source: '' }, 'source: got ""; allowed: a text of 1 to 255 characters'],
  ])('are refused by name, value and range: %j', (given, message) => {
    expect(refusal(given)).toContain(message)
  })

  it.each([
    [{ onLaneFull: 'park' }, "onLaneFull: 'park' needs a parking store, which is not there yet"],
    [{ atomic: true, inbox: memoryInbox() }, 'cannot include an inbox'],
    [{ atomic: true, outbox: memoryOutbox() }, 'cannot include an inbox'],
    [{ atomic: true, batch: { maxMessages: 1, maxWaitMs: 1 } }, 'leave batch out'],
  ])('are refused where they cannot be kept: %#', (given, message) => {
    expect(refusal(given)).toContain(message)
  })

  it('are needed', () => {
    expect(() => new ReliableConsumer(undefined as never)).toThrow('consumer: got undefined')
  })

  it('may relax the order of the topics, and take several', () => {
    expect(refusal({ ordering: 'none' })).toBe('accepted')
    expect(refusal({ topic: [Orders, Loose] })).toBe('accepted')
    expect(refusal({ topic: partitioned, ordering: 'key' })).toBe('accepted')
  })

  it('are refused with the broker’s own reason where it has one', () => {
    const settings = resolveOptions({ ...good, atomic: true })
    const offered = { ordering: ['key', 'partition', 'none'], atomicPublish: 'none' }
    const refused = (more: object): void =>
      checkCapabilities(settings, { ...offered, ...more } as unknown as Capabilities)
    expect(() => refused({})).toThrow('atomic (it has no transactions; give the consumer')
    const why = 'its client does not fence'
    expect(() => refused({ whyNotAtomic: why })).toThrow(`atomic (${why}; give the consumer`)
  })

  it('never change what they were given', () => {
    const topics = { orders: { retryLevelsMs: [5_000, 1_000] } }
    expect(refusal(Object.freeze({ topics }))).toBe('accepted')
    expect(topics.orders.retryLevelsMs).toEqual([5_000, 1_000])
  })
})
