import fc from 'fast-check'
import { afterEach, describe, expect, it, vi } from 'vitest'

import { OptionError } from '../../src/contract/errors.ts'
import {
  circuitBreaker,
  resolveBreakerOptions,
  type Breaker,
  type BreakerOptions,
  type BreakerState,
} from '../../src/policy/circuit-breaker.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

function closedBreaker(options: BreakerOptions = {}): {
  clock: VirtualClock
  breaker: Breaker
  states: BreakerState[]
} {
  const clock = new VirtualClock()
  const breaker = circuitBreaker(
    { volumeThreshold: 4, resetMs: 1_000, probeMs: 500, ...options },
    clock,
  )
  const states: BreakerState[] = []
  breaker.onChange((state) => states.push(state))
  return { clock, breaker, states }
}

function openBreaker(): ReturnType<typeof closedBreaker> {
  const set = closedBreaker()
  for (let failure = 0; failure < 4; failure++) set.breaker.failure()
  expect(set.breaker.state).toBe('open')
  return set
}

async function halfOpenBreaker(): Promise<ReturnType<typeof closedBreaker>> {
  const set = openBreaker()
  await set.clock.advance(1_000)
  expect(set.breaker.state).toBe('half-open')
  return set
}

describe('a closed breaker', () => {
  it('admits everything', () => {
    const { breaker } = closedBreaker()
    expect([breaker.admit(), breaker.admit()]).toEqual([true, true])
  })

  it('stays closed below the volume threshold, so that a first failure opens nothing (PL-2)', () => {
    const { breaker } = closedBreaker()
    for (let failure = 0; failure < 3; failure++) breaker.failure()
    expect(breaker.state).toBe('closed')
  })

  it('opens above the share of failures, and only there', () => {
    const { breaker, states } = closedBreaker()
    for (let pair = 0; pair < 10; pair++) {
      breaker.success()
      breaker.failure()
    }
    expect(breaker.state).toBe('closed')
    breaker.failure()
    expect([breaker.state, states]).toEqual(['open', ['open']])
  })

  it('forgets what is older than its window', async () => {
    const { clock, breaker } = closedBreaker({ windowMs: 10_000 })
    for (let failure = 0; failure < 3; failure++) breaker.failure()
    await clock.advance(11_000)
    for (let failure = 0; failure < 3; failure++) breaker.failure()
    expect(breaker.state).toBe('closed')
    breaker.failure()
    expect(breaker.state).toBe('open')
  })

  it('does not let the successes of hours ago outvote the failures of now', async () => {
    const { clock, breaker } = closedBreaker()
    for (let success = 0; success < 1_000; success++) breaker.success()
    await clock.advance(3_600_000)
    for (let failure = 0; failure < 4; failure++) breaker.failure()
    expect(breaker.state).toBe('open')
  })

  it('counts successes without a promise or event each (PL-8)', () => {
    const { breaker } = closedBreaker()
    for (let success = 0; success < 200_000; success++) breaker.success()
    breaker.failure()
    expect(breaker.state).toBe('closed')
  })

  it('opens at once when it is told to', () => {
    const { breaker } = closedBreaker()
    breaker.trip()
    expect([breaker.state, breaker.admit()]).toEqual(['open', false])
  })
})

describe('an open breaker', () => {
  it('admits nothing until its time is over on the injected clock, and then one probe', async () => {
    const { clock, breaker, states } = openBreaker()
    await clock.advance(999)
    expect(breaker.admit()).toBe(false)
    await clock.advance(1)
    expect(states).toEqual(['open', 'half-open'])
    expect([breaker.admit(), breaker.admit()]).toEqual([true, false])
  })

  it('closes at once when it is told to', () => {
    const { clock, breaker } = openBreaker()
    breaker.reset()
    expect([breaker.state, breaker.admit(), clock.timers]).toEqual(['closed', true, 0])
  })
})

describe('a half-open breaker', () => {
  it('closes with the success of its probe', async () => {
    const { breaker, states } = await halfOpenBreaker()
    breaker.admit()
    breaker.success()
    expect(states).toEqual(['open', 'half-open', 'closed'])
  })

  it('opens again with its failure, whatever the volume', async () => {
    const { breaker, states } = await halfOpenBreaker()
    breaker.admit()
    breaker.failure()
    expect(states).toEqual(['open', 'half-open', 'open'])
  })

  it('opens again when the probe never ends, instead of rejecting for ever (PL-4)', async () => {
    const { clock, breaker } = await halfOpenBreaker()
    breaker.admit()
    await clock.advance(500)
    expect(breaker.state).toBe('open')
    await clock.advance(1_000)
    expect([breaker.state, breaker.admit()]).toEqual(['half-open', true])
  })

  it('admits another probe when one told nothing', async () => {
    const { breaker } = await halfOpenBreaker()
    breaker.admit()
    breaker.forgo()
    expect([breaker.state, breaker.admit(), breaker.admit()]).toEqual(['half-open', true, false])
  })

  it('ignores late results of older generations (PL-5)', async () => {
    const { breaker } = closedBreaker()
    const before = breaker.generation
    const half = await halfOpenBreaker()
    half.breaker.admit()
    half.breaker.success(before)
    half.breaker.failure(before)
    half.breaker.forgo(before)
    expect([half.breaker.state, half.breaker.admit()]).toEqual(['half-open', false])
  })
})

/** Steps from one told state to the next; the last one told has none after it. */
const possible = new Set([
  'closed open',
  'open half-open',
  'half-open open',
  'half-open closed',
  'half-open half-open',
  'closed ',
  'open ',
  'half-open ',
])

describe('circuitBreaker', () => {
  afterEach(() => void vi.useRealTimers())

  it("keeps none of the library's timers armed, in no state", async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] })
    const { clock, breaker } = closedBreaker()
    expect(vi.getTimerCount()).toBe(0)
    for (let failure = 0; failure < 4; failure++) breaker.failure()
    expect([breaker.state, vi.getTimerCount()]).toEqual(['open', 0])
    await clock.advance(1_000)
    expect([breaker.state, vi.getTimerCount()]).toEqual(['half-open', 0])
    breaker.admit()
    breaker.failure()
    breaker.close()
    expect(vi.getTimerCount()).toBe(0)
  })

  it('leaves no timer and tells nobody after close', async () => {
    const { clock, breaker, states } = openBreaker()
    breaker.close()
    breaker.close()
    expect(clock.timers).toBe(0)
    await clock.advance(5_000)
    breaker.success()
    breaker.failure()
    breaker.trip()
    breaker.reset()
    await clock.settle()
    expect(states).toEqual(['open'])
  })

  it('keeps its rules in every order of events', async () => {
    const event = fc.constantFrom('success', 'failure', 'old', 'admit', 'wait', 'forgo')
    await fc.assert(
      fc.asyncProperty(fc.array(event, { maxLength: 60 }), async (events) => {
        const { clock, breaker, states } = closedBreaker()
        let probes = 0
        let generation = breaker.generation
        for (const next of events) {
          if (next === 'success') breaker.success()
          else if (next === 'failure') breaker.failure()
          else if (next === 'forgo') breaker.forgo()
          else if (next === 'old') breaker.success(breaker.generation - 1)
          else if (next === 'wait') await clock.advance(1_000)
          if (breaker.generation !== generation) probes = 0
          generation = breaker.generation
          const admitted = next === 'admit' && breaker.admit()
          const certain = { closed: next === 'admit', open: false, 'half-open': admitted }
          expect(admitted).toBe(certain[breaker.state])
          if (breaker.state === 'half-open' && admitted) probes++
          if (next === 'forgo') probes = 0
          expect(probes).toBeLessThanOrEqual(1)
        }
        // Half-open is told again when its probe told nothing.
        const told = ['closed', ...states].map((state, index) => [state, states[index]].join(' '))
        expect(told.filter((step) => !possible.has(step))).toEqual([])
        breaker.close()
        expect(clock.timers).toBe(0)
      }),
      { numRuns: 200 },
    )
  })
})

describe('resolveBreakerOptions', () => {
  it('never opens with the first failure by default', () => {
    expect(resolveBreakerOptions().volumeThreshold).toBeGreaterThanOrEqual(10)
  })

  it.each<[object, string]>([
    [{ volumeThreshold: 0 }, 'breaker.volumeThreshold: got 0'],
    [{ errorThresholdPercentage: 100 }, 'breaker.errorThresholdPercentage: got 100'],
    [{ windowMs: 1 }, 'breaker.windowMs: got 1'],
    [{ resetMs: -1 }, 'breaker.resetMs: got -1'],
    [{ probeMs: 0 }, 'breaker.probeMs: got 0'],
    [{ timeout: 5 }, 'breaker.timeout: got 5'],
  ])('refuses %o', (options, text) => {
    expect(() => resolveBreakerOptions(options)).toThrow(OptionError)
    expect(() => resolveBreakerOptions(options)).toThrow(text)
  })
})
