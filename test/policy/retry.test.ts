import { describe, expect, it } from 'vitest'

import { OptionError } from '../../src/contract/errors.ts'
import { constant } from '../../src/policy/backoff.ts'
import { resolveRetryPolicy, retry, type RetryContext } from '../../src/policy/retry.ts'
import { seededRandom } from '../support/seeded-random.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

function setUp(given: Partial<RetryContext> = {}): { clock: VirtualClock; context: RetryContext } {
  const clock = new VirtualClock()
  const random = seededRandom()
  return { clock, context: { clock, random, attempts: 3, backoff: constant(100), ...given } }
}

describe('retry', () => {
  it('tries again after its delay on the injected clock until it works', async () => {
    const { clock, context } = setUp()
    const tried: number[] = []
    const work = async (attempt: number): Promise<string> => {
      tried.push(clock.now())
      if (attempt < 3) throw new Error('not yet')
      return 'done'
    }
    expect(await clock.run(retry(work, context))).toBe('done')
    expect(tried).toEqual([0, 100, 200])
    expect(clock.timers).toBe(0)
  })

  it('rejects with the last error when the attempts are used up', async () => {
    const { clock, context } = setUp()
    let tries = 0
    const work = (): Promise<never> => Promise.reject(new Error(`try ${++tries}`))
    await expect(clock.run(retry(work, context))).rejects.toThrow('try 3')
  })

  it('tries TypeErrors and things that are not errors again, and passes them on as they are', async () => {
    const { clock, context } = setUp({ attempts: 2 })
    const error = new TypeError('not a network error')
    await expect(clock.run(retry(() => Promise.reject(error), context))).rejects.toBe(error)
    // oxlint-disable-next-line prefer-promise-reject-errors -- others may throw anything
    await expect(clock.run(retry(() => Promise.reject('text'), context))).rejects.toBe('text')
  })

  it('gives up at once where trying again cannot help', async () => {
    const { clock, context } = setUp({ retryable: () => false })
    let tries = 0
    const work = (): Promise<never> => Promise.reject(new Error(`try ${++tries}`))
    await expect(clock.run(retry(work, context))).rejects.toThrow('try 1')
  })

  it('ends with the reason of its signal, also while it waits', async () => {
    const stop = new AbortController()
    const { clock, context } = setUp({ attempts: Infinity, signal: stop.signal })
    const ended = retry(() => Promise.reject(new Error('no')), context).catch((error) => error)
    await clock.advance(250)
    stop.abort(new Error('stopped'))
    expect(await clock.run(ended)).toEqual(new Error('stopped'))
    expect(clock.timers).toBe(0)
  })
})

describe('a try under way when the signal aborts', () => {
  it('still says what it achieved, and is not told as a failure', async () => {
    const stop = new AbortController()
    const failures: unknown[] = []
    const onRetry = (error: unknown): void => void failures.push(error)
    const { clock, context } = setUp({ signal: stop.signal, onRetry })
    const work = (): Promise<string> =>
      new Promise((resolve) => clock.after(100, () => resolve('done')))
    const ended = retry(work, context)
    await clock.advance(50)
    stop.abort(new Error('stopped'))
    expect(await clock.run(ended)).toBe('done')
    expect(failures).toEqual([])
  })

  it('is never begun when it aborted before', async () => {
    const { context } = setUp({ signal: AbortSignal.abort(new Error('stopped')) })
    let tries = 0
    const work = (): Promise<number> => Promise.resolve(++tries)
    await expect(retry(work, context)).rejects.toThrow('stopped')
    expect(tries).toBe(0)
  })
})

describe('resolveRetryPolicy', () => {
  it('tries until told otherwise by default', () => {
    expect(resolveRetryPolicy().attempts).toBe(Infinity)
  })

  it.each<[object, string]>([
    [{ attempts: 0 }, 'retry.attempts: got 0'],
    [{ attempts: 1.5 }, 'retry.attempts: got 1.5'],
    [{ backoff: {} as never }, 'retry.backoff: got an object'],
    [{ delay: 1 }, 'retry.delay: got 1'],
  ])('refuses %o', (options, text) => {
    expect(() => resolveRetryPolicy(options)).toThrow(OptionError)
    expect(() => resolveRetryPolicy(options)).toThrow(text)
  })
})
