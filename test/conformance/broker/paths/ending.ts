import assert from 'node:assert/strict'

import {
  memoryDatabase,
  memoryInbox,
  type MemoryTransaction,
} from '../../../../adapters/memory/index.ts'
import type { Case } from '../../case.ts'
import { Gate } from '../../gate.ts'
import type { BrokerHarness } from '../harness.ts'
import { fault } from '../needs.ts'
import { HandlerLog } from './log.ts'
import { deal, pathCase, type Item, type Scene } from './scene.ts'

async function turn(scene: Scene): Promise<void> {
  await new Promise<void>((resolve) => scene.clock.defer(resolve))
}

/** Pausing, draining, closing, and a broker that goes away. */
export const endingCases: readonly Case<BrokerHarness>[] = [
  pathCase('handles nothing while paused, everything after', [], async (scene) => {
    const items = scene.items()
    const log = new HandlerLog()
    const publisher = await scene.publisher(items)
    const consumer = await scene.consumer(items, { handler: (item) => log.ended.push(item) })
    consumer.pause()
    await publisher.publishBatch(items, deal(['x', 'y'], 10))
    await scene.quiet('handled while paused', () => log.ended.length)
    assert.equal(log.ended.length, 0)
    consumer.resume()
    await scene.eventually(
      () => `${log.distinct} of 20 handled`,
      () => log.distinct === 20,
    )
  }),

  pathCase(
    'drains: what it began it ends, the rest goes to another, nothing twice',
    [],
    async (scene) => {
      const items = scene.items()
      const log = new HandlerLog()
      const publisher = await scene.publisher(items)
      const enough = new Gate()
      const handler = async (item: Item): Promise<void> => {
        await turn(scene)
        log.ended.push(item)
        if (log.ended.length === 30) enough.open()
      }
      const first = await scene.consumer(items, { handler, concurrency: 4 })
      await publisher.publishBatch(items, deal(['x', 'y', 'z'], 50))
      await scene.within('30 messages handled', enough.passed)
      await scene.within('drain()', first.drain({ timeoutMs: scene.limitMs }))
      assert.equal(await scene.within('closed', first.closed), undefined)
      const afterDrain = log.ended.length
      await scene.quiet('handled after drain() resolved', () => log.ended.length)
      await scene.consumer(items, { handler })
      await scene.eventually(
        () => `${log.distinct} of 150 handled, ${afterDrain} before the drain ended`,
        () => log.distinct === 150,
      )
      await scene.quiet('handled twice', () => log.ended.length)
      assert.equal(log.ended.length, 150)
    },
  ),

  pathCase('closes with work in flight: aborts it and gives it back', [], async (scene) => {
    const items = scene.items()
    const publisher = await scene.publisher(items)
    let began = 0
    let aborted = 0
    const first = await scene.consumer(items, {
      concurrency: 4,
      handler: (_, { signal }) => {
        began++
        return new Promise((__, reject) => {
          signal.addEventListener('abort', () => {
            aborted++
            reject(signal.reason as Error)
          })
        })
      },
    })
    await publisher.publishBatch(items, deal(['x', 'y'], 10))
    await scene.eventually(
      () => `${began} handlers began`,
      () => began === 4,
    )
    await scene.within('close()', first.close({ timeoutMs: scene.limitMs / 10 }))
    assert.equal(aborted, 4)
    const log = new HandlerLog()
    const attempts = new Set<number>()
    await scene.consumer(items, {
      handler: (item, { attempt }) => {
        attempts.add(attempt)
        log.ended.push(item)
      },
    })
    await scene.eventually(
      () => `${log.distinct} of 20 handled after the close`,
      () => log.distinct === 20,
    )
    assert.deepEqual([...attempts], [1], 'giving up at a close counts no attempt')
  }),

  pathCase(
    'ends with the reason when its destination is deleted',
    [fault('deleteDestination')],
    async (scene) => {
      const items = scene.items()
      const consumer = await scene.consumer(items, { handler: () => undefined })
      await scene.fault('deleteDestination')(items.name, 'a')
      const reason = await scene.within('closed', consumer.closed)
      assert.equal(reason?.code, 'destination-gone')
    },
  ),

  pathCase(
    'makes each effect once although the broker restarts',
    [fault('restart')],
    async (scene) => {
      const items = scene.items()
      const database = memoryDatabase()
      const publisher = await scene.publisher(items)
      await scene.consumer<MemoryTransaction>(items, {
        inbox: memoryInbox({ database }),
        prefetch: { messages: 20 },
        handler: async ({ key, n }, { tx }) => {
          await turn(scene)
          tx.add('effects', `${key}:${n}`)
        },
      })
      const batch = deal(['x', 'y', 'z'], 60)
      for (let first = 0; first < batch.length; first += 30) {
        const sent = batch.slice(first, first + 30).map((item) => publisher.publish(items, item))
        if (first === 60 || first === 120) await scene.fault('restart')()
        await scene.within('30 publishes', Promise.all(sent))
      }
      await scene.eventually(
        () => `${database.rows('effects').length} of 180 effects`,
        () => database.rows('effects').length >= 180,
      )
      await scene.still(() => database.rows('effects').length)
      const effects = database.rows('effects').map(([, effect]) => effect)
      assert.equal(effects.length, 180)
      assert.equal(new Set(effects).size, 180)
    },
  ),

  pathCase('handles 10 000 messages: none lost, none twice', [], async (scene) => {
    const items = scene.items()
    const seen = new Set<string>()
    let handled = 0
    const publisher = await scene.publisher(items)
    await scene.consumer(items, {
      concurrency: 64,
      handler: ({ key, n }) => {
        handled++
        seen.add(`${key}:${n}`)
      },
    })
    for (let batch = 0; batch < 20; batch++) {
      const outcomes = await publisher.publishBatch(items, deal([`k${batch}`], 500))
      assert.ok(outcomes.every(({ status }) => status === 'confirmed'))
    }
    await scene.eventually(
      () => `${seen.size} of 10 000 handled`,
      () => seen.size === 10_000,
    )
    await scene.quiet('handled twice', () => handled)
    assert.equal(handled, 10_000)
  }),
]
