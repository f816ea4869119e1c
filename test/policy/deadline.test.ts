import { getEventListeners } from 'node:events'

import { describe, expect, it } from 'vitest'

import { withDeadline } from '../../src/policy/deadline.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

describe('withDeadline', () => {
  it('passes on what the work resolves with, and leaves no timer', async () => {
    const clock = new VirtualClock()
    await expect(withDeadline(clock, 100, async () => 'done', 'it')).resolves.toBe('done')
    expect(clock.timers).toBe(0)
  })

  it('rejects with what the work rejects with, also when it throws at once', async () => {
    const clock = new VirtualClock()
    const failing = async (): Promise<never> => Promise.reject(new Error('no'))
    const throwing = (): Promise<never> => {
      throw new Error('at once')
    }
    await expect(withDeadline(clock, 100, failing, 'it')).rejects.toThrow('no')
    await expect(withDeadline(clock, 100, throwing, 'it')).rejects.toThrow('at once')
    expect(clock.timers).toBe(0)
  })

  it('rejects at the deadline and names what was waited for', async () => {
    const clock = new VirtualClock()
    const waited = withDeadline(clock, 100, () => new Promise(() => undefined), 'the answer')
    const ended = waited.catch((error: Error) => error.message)
    await clock.advance(99)
    await clock.advance(1)
    expect(await ended).toBe('the answer did not end within 100 ms')
    expect(clock.timers).toBe(0)
  })

  it('rejects as soon as its signal aborts, and stops listening in any case', async () => {
    const clock = new VirtualClock()
    const stop = new AbortController()
    const { signal } = stop
    const never = (): Promise<never> => new Promise(() => undefined)
    const late = withDeadline(clock, 10, never, 'it', signal).catch((error: Error) => error.message)
    await clock.advance(10)
    expect(await late).toContain('did not end')
    expect(getEventListeners(signal, 'abort')).toEqual([])
    const waited = withDeadline(clock, 100, never, 'it', signal)
    stop.abort(new Error('stopped'))
    await expect(waited).rejects.toThrow('stopped')
    await expect(withDeadline(clock, 100, never, 'it', signal)).rejects.toThrow('stopped')
    expect(clock.timers).toBe(0)
  })

  it('swallows what the work rejects with later', async () => {
    const clock = new VirtualClock()
    let fail: (error: Error) => void = () => undefined
    const work = (): Promise<never> => new Promise((_resolve, reject) => (fail = reject))
    const waited = withDeadline(clock, 10, work, 'it').catch((error: Error) => error.message)
    await clock.advance(10)
    fail(new Error('late'))
    await clock.settle()
    expect(await waited).toContain('did not end')
  })
})
