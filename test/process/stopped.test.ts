import assert from 'node:assert/strict'
import { describe, it } from 'vitest'

import type { Worker } from './rig/crew.ts'
import { confirmedAndThere, publishedAgain } from './rig/judge.ts'
import { consumer, relay, writer } from './rig/jobs.ts'
import { inRun, type Run } from './rig/run.ts'

const LIMIT_MS = 60_000
const LEASE_MS = 1_000

/** Waits until the process has stopped itself; resolves with when that was. */
async function stopsItself(run: Run, { life }: Worker): Promise<number> {
  const isStopped = (): boolean =>
    run.lines(({ op, proc }) => op === 'fault_start' && proc === life.proc).length > 0
  await run.until(`${life.proc} to stop itself`, LIMIT_MS, isStopped)
  return performance.now()
}

describe('a process that stands still for twice its lease', () => {
  it('is fenced as a relay: no loss, and first deliveries in order', async () => {
    await inRun({}, async (run) => {
      run.worker('writer', writer({ each: 40 }))
      const job = relay({ leaseMs: LEASE_MS, batchSize: 20 })
      const crash = { point: 'after_confirm_before_delete', visit: 2, action: 'stop' } as const
      const sleeper = run.worker('sleeper', job, { crash })
      run.worker('consumer', consumer({ leaseMs: 10_000 }))
      const since = await stopsItself(run, sleeper)
      run.worker('heir', job)
      const hasAll = (): boolean =>
        performance.now() - since >= 2 * LEASE_MS &&
        run.lines(({ name, value }) => name === 'relay.leases' && value === 64).at(-1)?.proc ===
          'heir.0'
      await run.until('the other relay to have everything', LIMIT_MS, hasAll)
      sleeper.life.resume()
      const isFenced = (): boolean => run.metric('relay.fenced', 'sleeper.0') > 0
      await run.until('the relay that slept to be fenced', LIMIT_MS, isFenced)
      await run.drained(LIMIT_MS)
      await run.verdict({ demands: { published: 320, delivered: 321, duplicates: 1, faults: 1 } })
    })
  })

  it('sends nothing any more that it had read before', async () => {
    await inRun({}, async (run) => {
      run.worker('writer', writer({ each: 40 }))
      const job = relay({ leaseMs: LEASE_MS, batchSize: 20 })
      const crash = { point: 'after_select', visit: 3, action: 'stop' } as const
      const sleeper = run.worker('sleeper', job, { crash })
      run.worker('consumer', consumer({ leaseMs: 10_000 }))
      const since = await stopsItself(run, sleeper)
      const unavoidable = confirmedAndThere(run)
      run.worker('heir', job)
      const isFree = (): boolean =>
        performance.now() - since >= 2 * LEASE_MS && run.metric('relay.published', 'heir.0') > 40
      await run.until('the other relay to go on', LIMIT_MS, isFree)
      sleeper.life.resume()
      await run.drained(LIMIT_MS)
      await run.stop()
      const again = publishedAgain(run.history.read())
      assert.deepEqual([...again.keys()].toSorted(), [...unavoidable].toSorted())
      await run.verdict({ demands: { published: 320, delivered: 320, faults: 1 } })
    })
  })

  it('is ignored as a consumer: its late acknowledgement does nothing, effects stay single', async () => {
    await inRun({}, async (run) => {
      run.worker('writer', writer({ each: 20 }))
      run.worker('relay', relay({ leaseMs: 10_000 }))
      const job = consumer({ leaseMs: LEASE_MS })
      const crash = { point: 'after_commit_before_ack', visit: 5, action: 'stop' } as const
      const sleeper = run.worker('sleeper', job, { crash })
      const since = await stopsItself(run, sleeper)
      run.worker('heir', job)
      const tookOver = (): boolean =>
        performance.now() - since >= 2 * LEASE_MS && run.metric('message.duplicate', 'heir.0') > 0
      await run.until('the other consumer to meet what was done', LIMIT_MS, tookOver)
      sleeper.life.resume()
      const isTold = (): boolean =>
        run.metric('settle.stale', 'sleeper.0') + run.metric('source.lost', 'sleeper.0') > 0
      await run.until('the consumer that slept to be told', LIMIT_MS, isTold)
      await run.drained(LIMIT_MS)
      await run.verdict({ demands: { published: 160, delivered: 161, duplicates: 1, faults: 1 } })
    })
  })

  it('keeps its transaction when it stands still inside it, and it counts once', async () => {
    await inRun({}, async (run) => {
      run.worker('writer', writer({ each: 10 }))
      run.worker('relay', relay({ leaseMs: 10_000 }))
      const job = consumer({ leaseMs: LEASE_MS, busyMs: 500 })
      const crash = { point: 'after_effect', visit: 3, action: 'stop' } as const
      const sleeper = run.worker('sleeper', job, { crash })
      const since = await stopsItself(run, sleeper)
      run.worker('heir', job)
      const isThere = (): boolean =>
        performance.now() - since >= 2 * LEASE_MS &&
        run.lines(({ op, proc }) => op === 'deliver' && proc === 'heir.0').length > 0
      await run.until('the other consumer to get what was held', LIMIT_MS, isThere)
      sleeper.life.resume()
      await run.drained(LIMIT_MS)
      await run.verdict({ demands: { published: 80, delivered: 81, duplicates: 1, faults: 1 } })
    })
  })
})
