import assert from 'node:assert/strict'

import type { Case } from '../../case.ts'
import type { BrokerHarness } from '../harness.ts'
import { asksBack, ordering } from '../needs.ts'
import { HandlerLog } from './log.ts'
import { deal, pathCase, type Item } from './scene.ts'

const keys = Array.from({ length: 40 }, (_, n) => `k${n}`)
const ROUNDS = 10

/** Consumers that come and go while there is work. */
export const joiningCases: readonly Case<BrokerHarness>[] = [
  pathCase(
    'hands keys over to a consumer that joins, and back when it leaves: each once, in order',
    [ordering('key'), asksBack],
    async (scene) => {
      const items = scene.items('key')
      const publisher = await scene.publisher(items)
      const log = new HandlerLog()
      const by = { first: 0, second: 0 }
      const handler = (who: keyof typeof by) => async (item: Item) => {
        log.begin(item)
        await new Promise<void>((resolve) => scene.clock.defer(resolve))
        by[who]++
        log.end(item)
      }
      let each = 0
      /** Work for every key, until that is so. */
      const workUntil = async (what: () => string, holds: () => boolean): Promise<void> => {
        const least = each + ROUNDS
        await scene.eventually(what, async () => {
          await publisher.publishBatch(items, deal(keys, 1, each++))
          return each >= least && holds()
        })
      }
      await scene.consumer(items, { handler: handler('first') })
      await workUntil(
        () => 'the first handled nothing',
        () => by.first > 0,
      )
      const second = await scene.consumer(items, { handler: handler('second') })
      await workUntil(
        () => 'the one that joined handled nothing',
        () => by.second > 0,
      )
      await scene.within('drain()', second.drain({ timeoutMs: scene.limitMs }))
      const handled = by.first
      await workUntil(
        () => 'the first got nothing after the other had left',
        () => by.first > handled,
      )
      const all = keys.length * each
      await scene.eventually(
        () => `${log.distinct} of ${all} handled`,
        () => log.distinct === all,
      )
      await scene.quiet('handled twice', () => log.ended.length)
      assert.equal(log.ended.length, all)
      log.assertOnceInOrder(keys, each)
    },
  ),
]
