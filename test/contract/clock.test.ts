import { describe, expect, it } from 'vitest'

import { sleep, systemClock } from '../../src/contract/clock.ts'

describe('systemClock', () => {
  it('is never early', async () => {
    for (const ms of [0, 1, 2, 3, 5, 8]) {
      const start = systemClock.now()
      await sleep(systemClock, ms)
      expect(systemClock.now() - start).toBeGreaterThanOrEqual(ms)
    }
  })

  it('does not run what was cancelled', async () => {
    let ran = false
    systemClock.after(1, () => (ran = true))()
    await sleep(systemClock, 5)
    expect(ran).toBe(false)
  })
})

describe('sleep', () => {
  it('rejects with the reason of the signal and leaves no listener', async () => {
    const controller = new AbortController()
    const sleeping = sleep(systemClock, 60_000, controller.signal)
    controller.abort(new Error('enough'))
    await expect(sleeping).rejects.toThrow('enough')
    await expect(sleep(systemClock, 1, controller.signal)).rejects.toThrow('enough')
  })
})
