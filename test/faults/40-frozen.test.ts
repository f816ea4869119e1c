import { setTimeout as wait } from 'node:timers/promises'
import assert from 'node:assert/strict'
import { describe, it } from 'vitest'

import { chance, oneOf, seedOfRun } from '../process/rig/chance.ts'
import type { Worker } from '../process/rig/crew.ts'
import { consumer, keys, relay, writer } from '../process/rig/jobs.ts'
import { inRun, type Run } from '../process/rig/run.ts'

const seed = seedOfRun()
const LEASE_MS = 1_000
const FOR_MS = 25_000
const LIMIT_MS = 120_000

/** Stops one of them for twice its lease, again and again; resolves with how often. */
async function freeze(run: Run, victims: readonly Worker[]): Promise<number> {
  const draw = chance(seed)
  const until = performance.now() + FOR_MS
  let times = 0
  for (; performance.now() < until; times++) {
    await wait(500 + draw() * 1_000)
    const { life } = oneOf(victims, draw)
    life.pause()
    await wait(2 * LEASE_MS)
    life.resume()
    run.assertNoTrouble()
  }
  return times
}

describe(`a process that stands still for twice its lease (HOLDFAST_SEED=${seed})`, () => {
  it('is one of three relays: what it confirmed before is fenced, order and messages stay', async () => {
    await inRun({}, async (run) => {
      run.worker('writer', writer({ keys: keys(24), each: 10_000, perTransaction: 8, pauseMs: 80 }))
      const job = relay({ leaseMs: LEASE_MS })
      const crash = { point: 'after_confirm_before_delete', visit: 20, action: 'stop' } as const
      const sleeper = run.worker('relay-1', job, { crash })
      const others = ['relay-2', 'relay-3'].map((name) => run.worker(name, job))
      run.worker('consumer', consumer({ leaseMs: 20_000, held: 64, transactionSize: 16 }))
      const isAsleep = (): boolean => run.lines(({ op }) => op === 'fault_start').length > 0
      await run.until('the relay to stop with confirmed rows in its hands', LIMIT_MS, isAsleep)
      await wait(3 * LEASE_MS)
      sleeper.life.resume()
      const isFenced = (): boolean => run.metric('relay.fenced', 'relay-1.0') > 0
      await run.until('the relay that slept to be fenced', LIMIT_MS, isFenced)
      const times = await freeze(run, [sleeper, ...others])
      assert.ok(times >= 5, `only ${times} stops`)
      await run.finishWriting()
      await run.drained(LIMIT_MS)
      await run.verdict({ demands: { published: 300, delivered: 300, faults: 1 } })
    })
  })

  it('is one of two consumers: effects stay single and in order', async () => {
    await inRun({}, async (run) => {
      run.worker('writer', writer({ keys: keys(24), each: 10_000, perTransaction: 8, pauseMs: 80 }))
      run.worker('relay', relay({ leaseMs: 20_000 }))
      const job = consumer({ leaseMs: LEASE_MS, handlerMs: 2 })
      const consumers = ['consumer-1', 'consumer-2'].map((name) => run.worker(name, job))
      await run.until('both at work', LIMIT_MS, () => run.metric('message.done') > 50)
      const times = await freeze(run, consumers)
      assert.ok(times >= 5, `only ${times} stops`)
      await run.finishWriting()
      await run.drained(LIMIT_MS)
      const lost = run.metric('source.lost') + run.metric('settle.stale')
      assert.ok(lost > 0, 'no consumer lost anything by standing still')
      await run.verdict({
        demands: { published: 300, delivered: 301, redelivered: 1, duplicates: 1 },
      })
    })
  })
})
