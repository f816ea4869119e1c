import assert from 'node:assert/strict'

import {
  isHoldfastError,
  PublishRefusedError,
  TooLargeError,
  UnroutableError,
} from '../../../../src/contract/errors.ts'
import type { Published } from '../../../../src/publish/published.ts'
import { memoryDatabase, memoryInbox } from '../../../../adapters/memory/index.ts'
import type { MemoryTransaction } from '../../../../adapters/memory/index.ts'
import type { Case } from '../../case.ts'
import { ackAtOnce } from '../connection.ts'
import type { BrokerHarness } from '../harness.ts'
import { capability, fault, ordering } from '../needs.ts'
import { HandlerLog } from './log.ts'
import { deal, pathCase, type Item } from './scene.ts'
import { Witness } from './witness.ts'

/** The way in, through `ReliablePublisher`: three outcomes, one id, order kept. */
export const publishingCases: readonly Case<BrokerHarness>[] = [
  pathCase('publishes: resolves with what the broker confirmed', [], async (scene) => {
    const items = scene.items()
    const log = new HandlerLog()
    await scene.consumer(items, { handler: (item) => log.ended.push(item) })
    const publisher = await scene.publisher(items)
    const published = await publisher.publish(items, { key: 'k', n: 0 })
    assert.equal(published.topic, items.name)
    assert.equal(published.key, 'k')
    assert.equal(published.via, 'broker')
    assert.equal(published.attempts, 1)
    assert.equal(published.possiblyDuplicated, false)
    await scene.eventually(
      () => 'the message was not handled',
      () => log.ended.length === 1,
    )
    assert.deepEqual(log.ended, [{ key: 'k', n: 0 }])
  }),

  pathCase('publishes again under the same id when the outcome is unknown', [], async (scene) => {
    const items = scene.items()
    const witness = new Witness(scene.clock)
    const publisher = await scene.publisher(items, { witness })
    const connection = await scene.connect()
    await connection.declare({ name: items.name })
    const listener = await connection.listen(items.name, { onReceived: ackAtOnce })
    witness.mislead('lose', () => true)
    const published = await publisher.publish(items, { key: 'k', n: 0 })
    assert.equal(published.possiblyDuplicated, true)
    assert.equal(published.attempts, 2)
    await scene.eventually(
      () => 'nothing arrived',
      () => listener.received.length >= 1,
    )
    await scene.still(() => listener.received.length)
    for (const { envelope } of listener.received) assert.equal(envelope.id, published.id)
  }),

  pathCase(
    'publishes with one effect behind an inbox when the outcome is unknown',
    [],
    async (scene) => {
      const items = scene.items()
      const witness = new Witness(scene.clock)
      const database = memoryDatabase()
      const seen: string[] = []
      await scene.consumer<MemoryTransaction>(items, {
        inbox: memoryInbox({ database }),
        handler: (item, { tx }) => tx.add('effects', item),
        on: ({ type }) => void seen.push(type),
      })
      const publisher = await scene.publisher(items, { witness })
      witness.mislead('lose', ({ to }) => to.kind === 'topic', 3)
      const batch = deal(['x', 'y', 'z'], 3)
      await Promise.all(batch.map((item) => publisher.publish(items, item)))
      await scene.eventually(
        () => `${database.rows('effects').length} of 9 effects; ${seen.join(', ')}`,
        () => database.rows('effects').length === 9,
      )
      await scene.quiet('more effects than messages', () => database.rows('effects').length)
    },
  ),

  pathCase(
    'publishes a key in order when one is refused and tried again',
    [ordering('key')],
    async (scene) => {
      for (const how of ['refuse', 'lose'] as const) {
        const items = scene.items('key')
        const log = new HandlerLog()
        const witness = new Witness(scene.clock)
        const handler = (item: Item): void => {
          log.begin(item)
          // A second delivery of what was lost is a duplicate, not a disorder.
          if (!log.of(item.key).includes(item.n)) log.end(item)
          else log.fail(item)
        }
        await scene.consumer(items, { handler })
        const publisher = await scene.publisher(items, { witness })
        let count = 0
        witness.mislead(how, () => count++ % 4 === 1, 10)
        const published: Promise<Published>[] = []
        for (const item of deal(['x', 'y'], 15)) {
          published.push(publisher.publish(items, item))
          // Some go in one hand-over, others overlap with it.
          if (item.n % 3 === 2) await new Promise<void>((resolve) => scene.clock.defer(resolve))
        }
        await scene.within('30 publishes', Promise.all(published))
        await scene.eventually(
          () => `${log.distinct} of 30 handled`,
          () => log.distinct === 30,
        )
        log.assertOnceInOrder(['x', 'y'], 15)
        assert.ok(witness.count({ what: how === 'lose' ? 'unknown' : 'refused' }) > 0)
        assert.deepEqual(witness.overtaken, [], 'two unresolved envelopes of a key')
      }
    },
  ),

  pathCase('publishes nothing that has no destination', [], async (scene) => {
    const items = scene.items()
    const publisher = await scene.publisher(items, { topics: {}, topology: 'none' })
    await assert.rejects(
      scene.within('publish()', publisher.publish(items, { key: 'k', n: 0 })),
      (error) => error instanceof UnroutableError,
    )
  }),

  pathCase('publishes the neighbours of what is too large', [bodyLimit()], async (scene) => {
    const items = scene.items()
    const log = new HandlerLog()
    await scene.consumer(items, { handler: (item) => log.ended.push(item) })
    const probe = await scene.connect()
    const { maxBodyBytes } = probe.capabilities.limits(items.name)
    const publisher = await scene.publisher(items)
    const outcomes = await publisher.publishBatch(items, [
      { key: 'x', n: 0 },
      { key: 'y'.repeat(maxBodyBytes), n: 0 },
      { key: 'z', n: 0 },
    ])
    assert.deepEqual(
      outcomes.map(({ status }) => status),
      ['confirmed', 'refused', 'confirmed'],
    )
    const [, refused] = outcomes
    assert.ok(refused?.status === 'refused' && refused.error instanceof TooLargeError)
    await scene.eventually(
      () => `${log.ended.length} of 2 handled`,
      () => log.ended.length === 2,
    )
  }),

  pathCase('publishes a batch: one outcome for each message, in order', [], async (scene) => {
    const items = scene.items()
    const log = new HandlerLog()
    await scene.consumer(items, { handler: (item) => log.ended.push(item) })
    const publisher = await scene.publisher(items)
    const batch = deal(['x', 'y', 'z'], 40)
    const outcomes = await publisher.publishBatch(items, batch)
    assert.equal(outcomes.length, 120)
    outcomes.forEach((outcome, index) => {
      assert.ok(outcome.status === 'confirmed')
      assert.equal(outcome.published.key, batch[index]?.key)
    })
    await scene.eventually(
      () => `${log.distinct} of 120 handled`,
      () => log.distinct === 120,
    )
  }),

  pathCase(
    'publishes refused and absent what was never written by its deadline',
    [fault('neverWrite')],
    async (scene) => {
      const items = scene.items()
      const log = new HandlerLog()
      await scene.consumer(items, { handler: (item) => log.ended.push(item) })
      const publisher = await scene.publisher(items)
      await publisher.publish(items, { key: 'before', n: 0 })
      const heal = await scene.fault('neverWrite')(items.name)
      scene.afterwards(heal)
      const late = publisher.publish(items, { key: 'never', n: 0 }, { deadlineMs: 1_500 })
      await assert.rejects(
        scene.within('publish()', late),
        (error) => error instanceof PublishRefusedError && error.code === 'not-sent',
      )
      await heal()
      await publisher.publish(items, { key: 'after', n: 0 })
      await scene.eventually(
        () => `${log.ended.length} of 2 handled`,
        () => log.ended.length === 2,
      )
      await scene.quiet('more was handled', () => log.ended.length)
      assert.deepEqual(log.ended.map(({ key }) => key).toSorted(), ['after', 'before'])
    },
  ),

  pathCase('publishes more than its buffer holds', [], async (scene) => {
    const items = scene.items()
    const log = new HandlerLog()
    await scene.consumer(items, { handler: (item) => log.ended.push(item) })
    const publisher = await scene.publisher(items, {
      buffer: { messages: 10, waitMs: scene.limitMs },
    })
    // Twice as many as fit: half of them wait for room, all the time.
    const work = async (worker: number): Promise<void> => {
      for (let n = 0; n < 8; n++) await publisher.publish(items, { key: `k${worker}`, n })
    }
    const workers = Array.from({ length: 20 }, (_, index) => work(index))
    await scene.within('160 publishes', Promise.all(workers))
    await scene.eventually(
      () => `${log.distinct} of 160 handled`,
      () => log.distinct === 160,
    )
  }),

  pathCase('publishes everything before flush() resolves', [], async (scene) => {
    const items = scene.items()
    const publisher = await scene.publisher(items)
    let settled = 0
    const batch = deal(['x', 'y'], 50)
    for (const item of batch) void publisher.publish(items, item).then(() => settled++)
    await scene.within('flush()', publisher.flush({ timeoutMs: scene.limitMs }))
    await new Promise<void>((resolve) => scene.clock.defer(resolve))
    assert.equal(settled, 100)
  }),

  pathCase('publishes or refuses, when it is closed with work in flight', [], async (scene) => {
    const items = scene.items()
    const log = new HandlerLog()
    await scene.consumer(items, { handler: (item) => log.ended.push(item) })
    const publisher = await scene.publisher(items)
    const batch = deal(['x', 'y', 'z'], 100)
    const results = batch.map((item) => publisher.publish(items, item))
    const ends = Promise.allSettled(results)
    await scene.within('close()', publisher.close({ timeoutMs: scene.limitMs }))
    const settled = await scene.within('the end of every publish', ends)
    const stored = batch.filter((_, index) => settled[index]?.status === 'fulfilled')
    const possible = batch.filter((_, index) => !isRefused(settled[index]!))
    await scene.eventually(
      () => `${log.distinct} handled, ${stored.length} confirmed`,
      () => stored.every((item) => handled(log, item)),
    )
    await scene.still(() => log.ended.length)
    assert.ok(log.ended.every((item) => possible.some((one) => same(one, item))))
    await assert.rejects(
      publisher.publish(items, { key: 'late', n: 0 }),
      (error) => isHoldfastError(error) && error.code === 'closed',
    )
  }),
]

function isRefused(result: PromiseSettledResult<Published>): boolean {
  if (result.status === 'fulfilled') return false
  const error: unknown = result.reason
  return error instanceof PublishRefusedError || (isHoldfastError(error) && error.code === 'closed')
}

function handled(log: HandlerLog, item: Item): boolean {
  return log.ended.some((one) => same(one, item))
}

function same(one: Item, other: Item): boolean {
  return one.key === other.key && one.n === other.n
}

function bodyLimit(): ReturnType<typeof capability> {
  return capability(
    'a body limit of at most 15 MiB',
    // The codec has a limit of its own, 16 MiB, which must not be the one that refuses.
    (has) => has.limits('conformance').maxBodyBytes <= 15 * 1024 * 1024,
  )
}
