import assert from 'node:assert/strict'
import { describe, it } from 'vitest'

import { consumer, keys, lock, relay, writer } from '../process/rig/jobs.ts'
import { inRun } from '../process/rig/run.ts'

const LIMIT_MS = 180_000
const AWAY_MS = 25_000

describe('a broker that is away under load', () => {
  it('costs no message, no attempt and no memory while its file is locked', async () => {
    await inRun({}, async (run) => {
      const job = { keys: keys(20), each: 100_000, perTransaction: 20, pauseMs: 100 }
      run.worker('writer', writer({ ...job, padBytes: 1_000 }))
      run.worker('relay', relay({ leaseMs: 5_000, attempts: 1, busyMs: 500 }))
      run.worker('consumer', consumer({ leaseMs: 5_000, attempts: 1, busyMs: 500 }))
      await run.until('everybody at work', LIMIT_MS, () => run.metric('message.done') > 100)
      const holdMs = [AWAY_MS, AWAY_MS] as const
      const locking = run.worker('lock', lock({ file: run.paths.broker, holdMs }))
      const isLocked = (): boolean => run.lines(({ op }) => op === 'fault_start').length > 0
      await run.until('the lock', LIMIT_MS, isLocked)
      const before = run.reader.orders().size
      await run.until('the lock to be let go', LIMIT_MS, () => locking.finished)
      const meanwhile = run.reader.orders().size - before
      assert.ok(meanwhile > 200, `only ${meanwhile} orders were taken while the broker was away`)
      assert.ok(run.metric('broker.state blocked') > 0, 'nobody noticed that it was away')
      await run.finishWriting()
      await run.drained(LIMIT_MS)
      assert.equal(run.metric('relay.parked'), 0)
      await run.verdict({
        drainedWithinMs: LIMIT_MS,
        bounds: { rss: 250 },
        poison: [],
        demands: { published: 500, delivered: 500, faults: 1 },
      })
    })
  })

  it('costs bounded memory in a process that goes on publishing, and nothing is lost', async () => {
    await inRun({}, async (run) => {
      const away = run.worker('away', {
        role: 'away',
        busyMs: 5_000,
        awayMs: AWAY_MS,
        warmUpMs: 5_000,
        perSecond: 400,
        padBytes: 1_000,
        buffer: 1_000,
      })
      await run.until(
        'the broker to come back and everything to be handled',
        LIMIT_MS,
        () => away.finished,
      )
      const [down] = run.lines(({ op }) => op === 'fault_start')
      const warming = run.lines(
        ({ name, t_mono }) => name === 'rss' && t_mono < (down?.t_mono ?? 0),
      )
      const warm = Math.max(...warming.map(({ value = 0 }) => value))
      assert.ok(run.metric('breaker.state open') > 0, 'no breaker opened')
      assert.equal(run.metric('relay.parked'), 0)
      const full = run.lines(({ op, outcome }) => op === 'publish' && outcome === 'buffer-full')
      assert.ok(full.length > 0, 'the buffer was never full')
      await run.verdict({
        drainedWithinMs: LIMIT_MS,
        publishWithinMs: 40_000,
        bounds: { rss: warm + 60, outstanding: 1_000 },
        poison: [],
        demands: { published: 5_000, delivered: 5_000, refused: 100, faults: 1 },
      })
    })
  })
})
