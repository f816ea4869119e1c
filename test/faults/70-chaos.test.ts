import assert from 'node:assert/strict'
import { setTimeout as wait } from 'node:timers/promises'
import { describe, it } from 'vitest'

import { chance, oneOf, seedOfRun, type Chance } from '../process/rig/chance.ts'
import type { Worker } from '../process/rig/crew.ts'
import { between, wreakHavoc } from '../process/rig/havoc.ts'
import { consumer, keys, lock, relay, writer } from '../process/rig/jobs.ts'
import { inRun, type Run } from '../process/rig/run.ts'

const seed = seedOfRun()
const PERIODS = 6
const PERIOD_MS = 12_000
const LEASE_MS = 2_000
const LIMIT_MS = 180_000

/** What may happen during a period. */
const packages = ['kills', 'stops', 'locked app', 'locked broker'] as const
type Package = (typeof packages)[number]

/** Any of them together; a quarter of the periods is quiet. */
function choose(draw: Chance): readonly Package[] {
  if (draw() < 0.25) return []
  const chosen = packages.filter(() => draw() < 0.4)
  return chosen.length > 0 ? chosen : [oneOf(packages, draw)]
}

async function stops(run: Run, victims: readonly Worker[], draw: Chance): Promise<void> {
  for (const until = performance.now() + PERIOD_MS; performance.now() < until;) {
    const { life } = oneOf(victims, draw)
    life.pause()
    await wait(between([500, 2 * LEASE_MS], draw))
    life.resume()
    await wait(between([200, 1_000], draw))
    run.assertNoTrouble()
  }
}

async function locks(run: Run, file: string, draw: Chance): Promise<void> {
  const job = lock({ file, times: 3, holdMs: [200, 3_000], pauseMs: 500, seed: draw() * 1_000 })
  const locking = run.worker(`lock-${run.workers.length}`, job)
  await run.until('the lock to be let go', LIMIT_MS, () => locking.finished)
}

describe(`anything at any time (HOLDFAST_SEED=${seed})`, () => {
  it('keeps every promise', async () => {
    await inRun({}, async (run) => {
      const draw = chance(seed)
      const job = { keys: keys(16), each: 100_000, perTransaction: 8, pauseMs: 80 }
      const fates = { seed, permanent: 0.01, transient: 0.03, killer: null }
      const writers = ['a', 'b'].map((producer) =>
        run.worker(`writer-${producer}`, writer({ ...job, producer })),
      )
      const others = [1, 2].flatMap((number) => [
        run.worker(`relay-${number}`, relay({ leaseMs: LEASE_MS })),
        run.worker(`consumer-${number}`, consumer({ leaseMs: LEASE_MS, fates, attempts: 6 })),
      ])
      const doing: Readonly<Record<Package, () => Promise<unknown>>> = {
        kills: () =>
          wreakHavoc(run, {
            seed: draw() * 2 ** 31,
            victims: [...writers, ...others],
            forMs: PERIOD_MS,
            everyMs: [1_000, 3_000],
          }),
        stops: () => stops(run, others, draw),
        'locked app': () => locks(run, run.paths.app, draw),
        'locked broker': () => locks(run, run.paths.broker, draw),
      }
      const happened: string[] = []
      for (let period = 0; period < PERIODS; period++) {
        const chosen = choose(draw)
        happened.push(chosen.join(' + ') || 'quiet')
        await Promise.all([wait(PERIOD_MS), ...chosen.map((one) => doing[one]())])
      }
      console.log(`what happened: ${happened.join(', ')}`)
      await run.finishWriting()
      await run.drained(LIMIT_MS)
      assert.ok(
        happened.some((one) => one !== 'quiet'),
        'nothing happened',
      )
      await run.verdict({
        fates,
        attemptLimit: 6,
        drainedWithinMs: LIMIT_MS,
        demands: { published: 500, delivered: 500, refused: 1, dead: 1 },
      })
    })
  })
})
