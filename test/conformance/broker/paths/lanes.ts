import assert from 'node:assert/strict'

import { constant } from '../../../../src/policy/backoff.ts'
import type { Case } from '../../case.ts'
import { Gate } from '../../gate.ts'
import type { BrokerHarness } from '../harness.ts'
import { capability, fault, ordering } from '../needs.ts'
import { HandlerLog } from './log.ts'
import { deal, pathCase, type Item, type Scene } from './scene.ts'

/** Between zero and three turns of the event loop, the same for the same item. */
async function someTurns(scene: Scene, { n }: Item): Promise<void> {
  for (let turns = (n * 7) % 4; turns > 0; turns--) {
    await new Promise<void>((resolve) => scene.clock.defer(resolve))
  }
}

const keyIsolation = capability(
  "hold.isolation 'key' with room for 30 messages and holes",
  ({ hold, progress }) =>
    hold.isolation === 'key' &&
    hold.maxMessages >= 40 &&
    progress.outOfOrder !== 'none' &&
    progress.maxHoles >= 40,
)

const keys = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l'] as const

/** Order of one key on the way out, whatever happens to its messages. */
export const laneCases: readonly Case<BrokerHarness>[] = [
  pathCase(
    'handles each key in order, one at a time, many keys at once',
    [ordering('key')],
    async (scene) => {
      const items = scene.items('key')
      const log = new HandlerLog()
      const publisher = await scene.publisher(items)
      let running = 0
      let most = 0
      await scene.consumer(items, {
        concurrency: 8,
        handler: async (item) => {
          most = Math.max(most, ++running)
          log.begin(item)
          await someTurns(scene, item)
          log.end(item)
          running--
        },
      })
      await publisher.publishBatch(items, deal(keys, 20))
      await scene.eventually(
        () => `${log.distinct} of 240 handled`,
        () => log.distinct === 240,
      )
      log.assertOnceInOrder(keys, 20)
      assert.ok(most > 1, 'keys did not run at once')
      assert.ok(most <= 8, `${most} handlers ran at once`)
    },
  ),

  pathCase(
    'handles a key in order while one of it fails, and the others meanwhile',
    [ordering('key'), keyIsolation],
    async (scene) => {
      const items = scene.items('key')
      const log = new HandlerLog()
      const publisher = await scene.publisher(items)
      const others = (): number => log.of('b').length + log.of('c').length
      await scene.consumer(items, {
        retry: { attempts: 10_000, backoff: constant(5) },
        handler: async (item) => {
          log.begin(item)
          await someTurns(scene, item)
          // It fails until the other keys are through: if they waited for it, nothing would end.
          if (item.key === 'a' && item.n === 2 && others() < 20) {
            log.fail(item)
            throw new Error('not before the others')
          }
          log.end(item)
        },
      })
      await publisher.publishBatch(items, deal(['a', 'b', 'c'], 10))
      await scene.eventually(
        () => `handled: a ${log.of('a').length}, b and c ${others()}`,
        () => log.distinct === 30,
      )
      log.assertOnceInOrder(['a', 'b', 'c'], 10)
    },
  ),

  pathCase(
    'handles a key in order although more waits than may be held',
    [ordering('key')],
    async (scene) => {
      const items = scene.items('key')
      const log = new HandlerLog()
      const publisher = await scene.publisher(items)
      let full = 0
      await scene.consumer(items, {
        prefetch: { messages: 8 },
        transactionSize: 1,
        retry: { attempts: 10_000, backoff: constant(5) },
        on: ({ type }) => void (full += type === 'lane.full' ? 1 : 0),
        handler: async (item) => {
          log.begin(item)
          await someTurns(scene, item)
          if (item.key === 'a' && item.n === 0 && full === 0) {
            log.fail(item)
            throw new Error('not before the hold limit is reached')
          }
          log.end(item)
        },
      })
      await publisher.publishBatch(items, [...deal(['a'], 25), ...deal(['b'], 25)])
      await scene.eventually(
        () =>
          `handled: a ${log.of('a').length}, b ${log.of('b').length}, limit reached ${full} times`,
        () => log.distinct === 50,
      )
      log.assertOnceInOrder(['a', 'b'], 25)
      assert.ok(full > 0, 'the hold limit was never reached')
    },
  ),

  pathCase('handles each key in order with two consumers', [ordering('key')], async (scene) => {
    const items = scene.items('key')
    const log = new HandlerLog()
    const publisher = await scene.publisher(items)
    const handler = async (item: Item): Promise<void> => {
      log.begin(item)
      await someTurns(scene, item)
      log.end(item)
    }
    await scene.consumer(items, { handler })
    await scene.consumer(items, { handler })
    await publisher.publishBatch(items, deal(keys, 15))
    await scene.eventually(
      () => `${log.distinct} of 180 handled`,
      () => log.distinct === 180,
    )
    log.assertOnceInOrder(keys, 15)
  }),

  pathCase(
    'never runs two handlers of a key when a source is lost and regained',
    [ordering('key'), fault('loseSource')],
    async (scene) => {
      const items = scene.items('key')
      const log = new HandlerLog()
      const publisher = await scene.publisher(items)
      const hold = new Gate()
      const attempts: number[] = []
      await scene.consumer(items, {
        handler: async (item, { attempt }) => {
          log.begin(item)
          if (item.n === 0) attempts.push(attempt)
          // It does not look at its signal: it cannot be stopped, only waited for.
          if (item.n === 0 && attempts.length === 1) await hold.passed
          log.end(item)
        },
      })
      await publisher.publishBatch(items, deal(['k'], 5))
      await scene.eventually(
        () => 'no handler began',
        () => log.began.length === 1,
      )
      await scene.fault('loseSource')(items.name, 'a')
      await scene.quiet('a second handler of the key began', () => log.began.length)
      hold.open()
      await scene.eventually(
        () => `${log.distinct} of 5 handled`,
        () => log.distinct === 5 && log.of('k').at(-1) === 4,
      )
      assert.deepEqual(log.overlaps, [])
      assert.deepEqual(attempts, [1, 1], 'losing a source counts no attempt')
      assert.deepEqual(log.of('k').slice(-5), [0, 1, 2, 3, 4])
    },
  ),
]
