import { describe, it } from 'vitest'

import { reached, strike } from './rig/sweep.ts'
import { Turns } from './rig/turns.ts'

const turns = new Turns(3)

describe('a process that is killed at a crash point and started again', () => {
  it.concurrent.each(reached)(
    'loses nothing, doubles no effect and keeps the order: $point in the $in',
    (spot) => turns.take(() => strike({ spot, visit: 1, layout: 'two files', seed: 20 })),
  )
})
