import assert from 'node:assert/strict'
import { describe, it } from 'vitest'

import { seedOfRun } from '../process/rig/chance.ts'
import { wreakHavoc } from '../process/rig/havoc.ts'
import { consumer, keys, relay, writer } from '../process/rig/jobs.ts'
import { inRun } from '../process/rig/run.ts'

const seed = seedOfRun()
const FOR_MS = 45_000
const LEASE_MS = 3_000
const LIMIT_MS = 180_000

describe(`two writers, four relays and four consumers, killed at random (HOLDFAST_SEED=${seed})`, () => {
  it.each(['two files', 'one file'] as const)(
    'lose nothing, double no effect and keep the order, on %s',
    async (layout) => {
      await inRun({ layout }, async (run) => {
        const job = { keys: keys(16), each: 100_000, perTransaction: 10, pauseMs: 80 }
        const fates = { seed, permanent: 0.01, transient: 0.02, killer: null }
        const writers = ['a', 'b'].map((producer) =>
          run.worker(`writer-${producer}`, writer({ ...job, producer, rollBackEvery: 20 })),
        )
        const rest = [1, 2, 3, 4].flatMap((number) => [
          run.worker(`relay-${number}`, relay({ leaseMs: LEASE_MS })),
          run.worker(`consumer-${number}`, consumer({ fates, leaseMs: LEASE_MS })),
        ])
        const victims = [...writers, ...rest]
        const everyMs = [1_000, 3_000] as const
        const kills = await wreakHavoc(run, { victims, seed, forMs: FOR_MS, everyMs })
        assert.ok(kills >= 15, `only ${kills} kills`)
        await run.finishWriting()
        await run.drained(LIMIT_MS)
        await run.verdict({
          fates,
          attemptLimit: 4,
          drainedWithinMs: LIMIT_MS,
          demands: {
            published: 500,
            delivered: 500,
            redelivered: 1,
            refused: 1,
            dead: 1,
            killed: kills,
          },
        })
      })
    },
  )
})
