import { describe, expect, it } from 'vitest'

import { Supervisor } from '../../../adapters/rabbitmq/supervisor.ts'
import type { Wire } from '../../../adapters/rabbitmq/wire.ts'
import type { Random } from '../../../src/contract/clock.ts'
import { ClosedError, HoldfastError } from '../../../src/contract/errors.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'

const MINUTE_MS = 60_000
/** How long opening takes. */
const OPEN_MS = 5
/** The longest of all waits, every time. */
const longest: Random = { next: () => 0.999_999, fill: () => undefined }
const noWaits: Random = { ...longest, next: () => 0 }

/** A wire that ends when it is told to. */
function wire(): Wire {
  const listeners: ((error: HoldfastError) => void)[] = []
  let isOpen = true
  const end = (error: Error = new ClosedError('test')): void => {
    if (!isOpen) return
    isOpen = false
    for (const listener of listeners) listener(error as HoldfastError)
  }
  return {
    get isOpen() {
      return isOpen
    },
    blocked: null,
    onClose: (listener: (error: HoldfastError) => void) => {
      listeners.push(listener)
      return () => undefined
    },
    onBlocked: () => () => undefined,
    destroy: end,
    close: async () => end(),
  } as unknown as Wire
}

/** A broker that several supervisors connect to, in virtual time. */
class Place {
  readonly clock = new VirtualClock()
  readonly #listeners = new Set<() => void>()
  /** Why nobody gets in; `null` lets everybody in. */
  away: 'connection-lost' | 'unavailable' | null = null
  /** When somebody tried, and who. */
  readonly tries: { readonly purpose: string; readonly atMs: number }[] = []

  async open(purpose: string): Promise<Wire> {
    this.tries.push({ purpose, atMs: this.clock.now() })
    await new Promise<void>((resolve) => void this.clock.after(OPEN_MS, resolve))
    if (this.away !== null) throw new HoldfastError(this.away, 'nobody gets in')
    for (const listener of [...this.#listeners]) listener()
    return wire()
  }

  onOpen(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  get listeners(): number {
    return this.#listeners.size
  }

  supervisor(
    purpose: string,
    random = longest,
    setup: () => Promise<void> = async () => undefined,
  ): Supervisor {
    const told = { lost: () => undefined, health: () => undefined }
    const { clock } = this
    const one = new Supervisor({ purpose, connector: this, clock, random, setup, ...told })
    one.start()
    return one
  }
}

describe('waiting for a broker that is away', () => {
  it('tries every five seconds at the latest, however long it lasts', async () => {
    const place = new Place()
    place.away = 'connection-lost'
    const one = place.supervisor('one')
    await place.clock.advance(10 * MINUTE_MS)
    place.away = null
    await place.clock.advance(5_000 + OPEN_MS)
    expect(one.wire).not.toBeNull()
    await one.stop(place.clock.now())
  })

  it('asks less and less where it was told no, half a minute apart in the end', async () => {
    const place = new Place()
    place.away = 'unavailable'
    const one = place.supervisor('one')
    await place.clock.advance(10 * MINUTE_MS)
    const late = place.tries.filter(({ atMs }) => atMs > 5 * MINUTE_MS)
    expect(late.length).toBeGreaterThanOrEqual(9)
    expect(late.length).toBeLessThanOrEqual(11)
    await one.stop(place.clock.now())
  })

  it('goes on at once when another connection finds that it is back', async () => {
    const place = new Place()
    place.away = 'connection-lost'
    const waiting = ['one', 'two', 'three'].map((purpose) => place.supervisor(purpose))
    await place.clock.advance(MINUTE_MS)
    place.away = null
    const first = place.supervisor('first')
    await place.clock.advance(2 * OPEN_MS)
    expect([first, ...waiting].map((each) => each.wire !== null)).toEqual([true, true, true, true])
    expect(place.listeners).toBe(0)
    await Promise.all([first, ...waiting].map((each) => each.stop(place.clock.now())))
  })

  it('does not take a connection that opens, and cannot be used, for good news', async () => {
    const place = new Place()
    const broken = async (): Promise<void> => Promise.reject(new Error('no channel'))
    const both = [
      place.supervisor('one', longest, broken),
      place.supervisor('two', longest, broken),
    ]
    await place.clock.advance(MINUTE_MS)
    // 100, 200, … 5 000 ms apart, and no more for there being two of them.
    expect(place.tries.filter(({ purpose }) => purpose === 'one').length).toBeLessThan(20)
    expect(place.tries.length).toBeLessThan(40)
    await Promise.all(both.map((each) => each.stop(place.clock.now())))
  })

  it('leaves no timer and no listener behind', async () => {
    const place = new Place()
    place.away = 'connection-lost'
    const [resting, trying] = [place.supervisor('one'), place.supervisor('two', noWaits)]
    await place.clock.advance(MINUTE_MS)
    const deadline = place.clock.now() + MINUTE_MS
    await place.clock.run(Promise.all([resting.stop(deadline), trying.stop(deadline)]))
    expect([place.clock.timers, place.listeners]).toEqual([0, 0])
  })
})
