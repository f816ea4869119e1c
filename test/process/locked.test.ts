import assert from 'node:assert/strict'
import { describe, it } from 'vitest'

import { consumer, lock, relay, writer } from './rig/jobs.ts'
import { inRun } from './rig/run.ts'

const LIMIT_MS = 60_000
const HOLD_MS = [3_000, 3_000] as const

describe('a file whose lock another program holds for longer than it is waited for', () => {
  it('costs transactions a named error, and nothing that was promised', async () => {
    await inRun({}, async (run) => {
      run.worker('writer', writer({ each: 40, busyMs: 300 }))
      run.worker('relay', relay({ busyMs: 300 }))
      run.worker('consumer', consumer({ busyMs: 300 }))
      await run.until('everybody at work', LIMIT_MS, () => run.metric('message.done') >= 20)
      const locking = run.worker('lock', lock({ file: run.paths.app, holdMs: HOLD_MS }))
      await run.until('the lock to be let go', LIMIT_MS, () => locking.finished)
      await run.drained(LIMIT_MS)
      const refused = run.lines(({ errClass }) => errClass === 'storage-busy')
      assert.ok(refused.length > 0, 'no transaction met the lock')
      await run.verdict({
        drainedWithinMs: 20_000,
        demands: { published: 320, delivered: 320, faults: 1, refused: 1 },
      })
    })
  })

  it('refuses publishes that it never wrote, and takes them when it is free', async () => {
    await inRun({}, async (run) => {
      const direct = { via: 'broker', each: 60, pauseMs: 20, deadlineMs: 800 } as const
      run.worker('writer', writer({ ...direct, busyMs: 300 }))
      run.worker('consumer', consumer({ busyMs: 300, leaseMs: 1_000 }))
      await run.until('everybody at work', LIMIT_MS, () => run.metric('message.done') >= 20)
      const locking = run.worker('lock', lock({ file: run.paths.broker, holdMs: HOLD_MS }))
      await run.until('the lock to be let go', LIMIT_MS, () => locking.finished)
      await run.drained(LIMIT_MS)
      const refused = run.lines(({ op, phase }) => op === 'publish' && phase === 'fail')
      assert.ok(refused.length > 0, 'no publish met the lock')
      const codes = new Set(refused.map(({ outcome }) => outcome))
      assert.deepEqual([...codes], ['not-sent'])
      await run.verdict({
        drainedWithinMs: 20_000,
        publishWithinMs: 10_000,
        demands: { published: 480, delivered: 480, faults: 1 },
      })
    })
  })
})
