import assert from 'node:assert/strict'
import { setTimeout as wait } from 'node:timers/promises'
import { describe, it } from 'vitest'

import { seedOfRun } from '../process/rig/chance.ts'
import { consumer, keys, lock, relay, writer } from '../process/rig/jobs.ts'
import { inRun } from '../process/rig/run.ts'
import { watchLog } from '../process/rig/storm.ts'

const seed = seedOfRun()
const FOR_MS = 30_000
const LIMIT_MS = 180_000
/** Checkpoints begin at 4 MB; the rest is what is written while they wait for readers. */
const MOST_LOG_BYTES = 32 * 1_048_576

describe(`one file that everybody writes at once (HOLDFAST_SEED=${seed})`, () => {
  it('makes nobody fail: every lock is waited out, and the log stays small', async () => {
    await inRun({ layout: 'one file' }, async (run) => {
      const job = { keys: keys(10), each: 100_000, pauseMs: 0, padBytes: 2_000 }
      run.worker('writer-1', writer({ ...job, producer: 'a' }))
      run.worker('writer-2', writer({ ...job, producer: 'b' }))
      run.worker('relay', relay({ leaseMs: 15_000 }))
      run.worker('consumer', consumer({ leaseMs: 15_000 }))
      const other = lock({ file: run.paths.app, times: 0, holdMs: [1, 15], pauseMs: 10, seed })
      const storm = run.worker('storm', other)
      const mostOfLog = watchLog(run)
      await wait(FOR_MS)
      await run.finishWriting()
      await storm.stop()
      await run.drained(LIMIT_MS)
      assert.ok(run.metric('busy') > 100, 'nobody was in anybody’s way')
      const failed = run.lines(({ errClass = '' }) => /storage-busy|locked/.test(errClass))
      assert.deepEqual(failed, [], 'a lock was not waited out')
      assert.ok(mostOfLog() < MOST_LOG_BYTES, `the log grew to ${mostOfLog()} bytes`)
      await run.verdict({
        drainedWithinMs: LIMIT_MS,
        demands: { published: 300, delivered: 300, refused: 1, faults: 100 },
      })
    })
  })
})
