import assert from 'node:assert/strict'
import { describe, it } from 'vitest'

import { seedOfRun } from '../process/rig/chance.ts'
import { consumer, keys, relay, writer } from '../process/rig/jobs.ts'
import { inRun } from '../process/rig/run.ts'

const seed = seedOfRun()
const LIMIT_MS = 120_000
const KILLER = 'w-k3-20'

describe(`messages of which some fail and one kills its process (HOLDFAST_SEED=${seed})`, () => {
  it('end where they belong: the hopeless ones and the killer dead, all others handled once', async () => {
    await inRun({}, async (run) => {
      const fates = { seed, permanent: 0.01, transient: 0.05, killer: KILLER }
      run.worker('writer', writer({ keys: keys(20), each: 75, perTransaction: 10 }))
      run.worker('relay', relay({ leaseMs: 10_000 }))
      const consumers = ['consumer-1', 'consumer-2'].map((name) =>
        run.worker(name, consumer({ fates, attempts: 3 })),
      )
      await run.drained(LIMIT_MS)
      const deaths = consumers.reduce((sum, one) => sum + one.deaths, 0)
      assert.ok(deaths >= 3, `it killed only ${deaths} processes`)
      const found = run.reader.deadLetters().find(({ msgId }) => msgId === KILLER)
      assert.equal(found?.reason, 'attempts-exhausted')
      const counted = run.metric('message.retry')
      assert.ok(counted > 0, 'nothing was tried again')
      await run.verdict({
        fates,
        attemptLimit: 3,
        demands: { published: 1_500, delivered: 1_500, redelivered: 1, dead: 2, killed: 3 },
      })
    })
  })

  it('take nobody with them: what waits beside the killer is not counted with it', async () => {
    await inRun({}, async (run) => {
      const fates = { seed, permanent: 0, transient: 0, killer: 'w-k0-0' }
      const job = { keys: keys(16), each: 3, perTransaction: 48, rollBackEvery: 0 }
      const written = run.worker('writer', writer(job))
      run.worker('relay', relay({ leaseMs: 10_000 }))
      const isThere = (): boolean => written.finished && run.reader.waiting().length === 48
      await run.until('everything to be in the broker', LIMIT_MS, isThere)
      const doomed = run.worker('consumer', consumer({ fates, attempts: 3, concurrency: 16 }))
      await run.drained(LIMIT_MS)
      // Once uncounted, since nothing was suspected then, and once for every attempt.
      assert.equal(doomed.deaths, 4)
      await run.verdict({
        fates,
        attemptLimit: 3,
        demands: { published: 48, delivered: 48, redelivered: 1, dead: 1, killed: 4 },
      })
    })
  })
})
