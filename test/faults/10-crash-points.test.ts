import { describe, it } from 'vitest'

import { seedOfRun } from '../process/rig/chance.ts'
import { reached, strike, type Strike } from '../process/rig/sweep.ts'
import { Turns } from '../process/rig/turns.ts'

const seed = seedOfRun()
const turns = new Turns(3)

const strikes: readonly Strike[] = [
  ...reached.map((spot) => ({ spot, visit: 1, layout: 'one file' as const, seed })),
  ...[2, 5].flatMap((visit) =>
    reached
      .filter(({ once }) => once !== true)
      .map((spot) => ({ spot, visit, layout: 'two files' as const, seed })),
  ),
]

describe(`a process that is killed at a crash point and started again (HOLDFAST_SEED=${seed})`, () => {
  it.concurrent.each(strikes)(
    'keeps every promise: visit $visit of $spot.point, on $layout',
    (one) => turns.take(() => strike(one)),
  )
})
