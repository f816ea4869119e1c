import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { CONFIRMED, type SendOutcome } from '../../src/contract/broker.ts'
import type { CrashPoint } from '../../src/contract/crash-points.ts'
import type { Envelope } from '../../src/contract/message.ts'
import { OutboxRelay } from '../../src/publish/relay.ts'
import { refused, ScriptedBroker, unknown, type Handed } from '../support/scripted-broker.ts'
import { seededRandom } from '../support/seeded-random.ts'
import { Life, mortalBroker, mortalClock, mortalStore } from './mortal.ts'
import { RelayStage } from './relay-stage.ts'
import { memoryOutbox } from '../../adapters/memory/index.ts'
import type { HoldfastEvent } from '../../src/contract/events.ts'

const LEASE_MS = 3_000
/** Raise it to look longer: `HOLDFAST_RUNS=500`. */
const RUNS = Number(process.env.HOLDFAST_RUNS ?? 12)

interface Fates {
  /** What becomes of an envelope; default: confirmed. */
  readonly fate?: (envelope: Envelope) => SendOutcome | null
  readonly latencyMs?: () => number
  readonly at?: (point: CrashPoint, life: Life) => void
  readonly keyRunsInOneSend?: boolean
}

/** Relays as processes on one outbox and one broker, which notes what it stores, in order. */
class Fleet {
  readonly stage: RelayStage = new RelayStage()
  readonly stored: string[] = []
  readonly events: HoldfastEvent[] = []
  readonly lives: Life[] = []

  async add({
    fate = () => CONFIRMED,
    latencyMs = () => 5,
    at,
    keyRunsInOneSend = false,
  }: Fates = {}): Promise<Life> {
    const { clock, database } = this.stage
    const life = new Life()
    const failed = new WeakMap<Handed, Set<string>>()
    const answer = (envelope: Envelope, sent: Handed): SendOutcome | null => {
      const keys = failed.get(sent) ?? new Set()
      failed.set(sent, keys)
      const { orderKey } = envelope
      if (orderKey !== null && keys.has(orderKey)) return refused('predecessor', true)
      const outcome = fate(envelope)
      if (orderKey !== null && outcome !== CONFIRMED) keys.add(orderKey)
      if (outcome === null || outcome.status !== 'refused') this.stored.push(String(envelope.id))
      return outcome
    }
    const own = mortalClock(clock, life)
    const relay = new OutboxRelay({
      broker: mortalBroker(new ScriptedBroker(clock, { keyRunsInOneSend }, answer), life),
      outbox: mortalStore(memoryOutbox({ database }), life, clock, latencyMs),
      leaseMs: LEASE_MS,
      pollMs: 200,
      sendTimeoutMs: 700,
      batchSize: 10,
      attempts: 2,
      logging: 'silent',
      on: (event) => this.events.push(event),
      clock: own,
      random: seededRandom(this.lives.length + 1),
      crash: { at: (point) => at?.(point, life) },
    })
    this.lives.push(life)
    await clock.run(relay.start())
    return life
  }

  /** First deliveries of a key that came after a later one's. */
  disorder(): string[] {
    const latest = new Map<string, number>()
    const seen = new Set<string>()
    return this.stored.filter((name) => {
      const [key = '', n] = name.split(':')
      if (n === undefined || seen.has(name)) return false
      seen.add(name)
      const before = latest.get(key) ?? -1
      latest.set(key, Math.max(before, Number(n)))
      return Number(n) < before
    })
  }

  /** Time for leases of the dead to end and everything to be moved. */
  async heal(): Promise<void> {
    for (const life of this.lives) life.thaw()
    await this.stage.clock.advance(4 * LEASE_MS + 20_000)
  }
}

function keyed(count: number, keys: number): string[] {
  return Array.from({ length: count }, (_, n) => `k${n % keys}:${Math.floor(n / keys)}`)
}

describe('a relay that is frozen beyond its lease', () => {
  it('finds its completions fenced, and nothing is lost or out of order (O-V7)', async () => {
    const fleet = new Fleet()
    const names = keyed(40, 4)
    await fleet.stage.append(...names)
    const zombie = await fleet.add({
      at: (point, life) => {
        if (point === 'after_confirm_before_delete') life.freeze()
      },
    })
    await fleet.stage.clock.advance(500)
    expect(zombie.isAlive).toBe(false)
    await fleet.add()
    await fleet.stage.clock.advance(2 * LEASE_MS)
    await fleet.heal()
    const fenced = fleet.events.filter(({ type }) => type === 'relay.fenced')
    expect(fenced.length).toBeGreaterThan(0)
    expect(new Set(fleet.stored)).toEqual(new Set(names))
    expect([fleet.disorder(), fleet.stage.pending]).toEqual([[], 0])
  })

  it('begins nothing after its lease has ended', async () => {
    const fleet = new Fleet()
    await fleet.stage.append(...keyed(10, 1))
    const zombie = await fleet.add({ fate: () => null })
    await fleet.stage.clock.advance(100)
    expect(fleet.stored).toEqual(['k0:0'])
    zombie.freeze()
    await fleet.stage.clock.advance(2 * LEASE_MS)
    await fleet.add()
    await fleet.stage.clock.advance(1_000)
    const before = fleet.stored.length
    zombie.thaw()
    await fleet.stage.clock.advance(50)
    expect(fleet.stored.slice(before)).toEqual([])
    await fleet.heal()
    expect([fleet.disorder(), fleet.stage.pending]).toEqual([[], 0])
  })
})

const points: readonly CrashPoint[] = [
  'after_lease',
  'after_select',
  'after_send_some',
  'after_send_all',
  'after_confirm_some',
  'after_confirm_before_delete',
  'after_delete_before_ack_state',
]

describe('a relay that is killed', () => {
  it.each(points)(
    'at %s loses nothing, keeps the order, and duplicates only what was in flight',
    async (point) => {
      const fleet = new Fleet()
      const names = keyed(60, 6)
      await fleet.stage.append(...names)
      let kills = 0
      await fleet.add({
        at: (reached, life) => {
          if (reached !== point || kills > 0) return
          kills++
          life.kill()
        },
      })
      await fleet.stage.clock.advance(2_000)
      expect(kills).toBe(1)
      const before = fleet.stored.length
      await fleet.add()
      await fleet.heal()
      expect(new Set(fleet.stored)).toEqual(new Set(names))
      expect([fleet.disorder(), fleet.stage.pending]).toEqual([[], 0])
      expect(fleet.stored.length - names.length).toBeLessThanOrEqual(before)
    },
  )

  it('after the confirm and before the delete duplicates exactly those, with the same ids (O-P2)', async () => {
    const fleet = new Fleet()
    await fleet.stage.append('a', 'b', 'c')
    await fleet.add({
      at: (reached, life) => {
        if (reached === 'after_confirm_before_delete') life.kill()
      },
    })
    await fleet.stage.clock.advance(500)
    await fleet.add()
    await fleet.heal()
    expect(fleet.stored.toSorted()).toEqual(['a', 'a', 'b', 'b', 'c', 'c'])
  })
})

describe('crash points', () => {
  it('are reached in their order, each at its place', async () => {
    const fleet = new Fleet()
    await fleet.stage.append('k:0', 'k:1')
    const reached: string[] = []
    await fleet.add({
      at: (point) => {
        reached.push(`${point}, stored ${fleet.stored.length}, left ${fleet.stage.pending}`)
      },
    })
    await fleet.stage.clock.advance(300)
    const mine = reached.filter((text) => points.some((point) => text.startsWith(`${point},`)))
    expect(mine).toEqual([
      'after_lease, stored 0, left 2',
      'after_select, stored 0, left 2',
      'after_send_some, stored 0, left 2',
      'after_send_all, stored 0, left 2',
      'after_confirm_some, stored 1, left 2',
      'after_confirm_before_delete, stored 1, left 2',
      'after_send_some, stored 1, left 2',
      'after_send_all, stored 1, left 2',
      'after_confirm_some, stored 2, left 2',
      'after_delete_before_ack_state, stored 2, left 1',
      'after_confirm_before_delete, stored 2, left 1',
      'after_delete_before_ack_state, stored 2, left 0',
    ])
  })

  it('are reached when a relay shuts down, with nothing given back yet', async () => {
    const stage = new RelayStage()
    const rig = await stage.relay({ answer: () => CONFIRMED })
    await stage.clock.run(rig.relay.drain())
    expect(rig.crashes.at(-1)).toBe('during_shutdown')
  })
})

describe('relays under random faults', () => {
  it.each([
    ['one message of a key at a time', false],
    ['runs of a key together', true],
  ])(
    'lose nothing and keep first deliveries of each key in order, %s',
    async (_name, keyRunsInOneSend) => {
      const fault = fc.record({
        afterMs: fc.integer({ min: 10, max: 2_500 }),
        relay: fc.nat({ max: 2 }),
        what: fc.constantFrom('freeze', 'thaw', 'kill', 'append'),
      })
      await fc.assert(
        fc.asyncProperty(fc.array(fault, { maxLength: 14 }), fc.nat(), async (faults, seed) => {
          const random = seededRandom(seed)
          let healed = false
          const fate = ({ id }: Envelope): SendOutcome | null => {
            const roll = healed ? 1 : random.next()
            if (id?.endsWith(':13')) return refused('too-large', false)
            if (roll < 0.1) return unknown()
            if (roll < 0.2) return refused('rejected', true)
            return roll < 0.26 ? null : CONFIRMED
          }
          const latencyMs = (): number => random.next() * 60
          const fleet = new Fleet()
          const names = keyed(30, 3)
          await fleet.stage.append(...names)
          for (let n = 0; n < 3; n++) await fleet.add({ fate, latencyMs, keyRunsInOneSend })
          let killed = 0
          for (const { afterMs, relay, what } of faults) {
            await fleet.stage.clock.advance(afterMs)
            const life = fleet.lives[relay]
            if (what === 'freeze') life?.freeze()
            else if (what === 'thaw') life?.thaw()
            else if (what === 'kill' && life?.isAlive && killed++ < 2) {
              life.kill()
              await fleet.add({ fate, latencyMs, keyRunsInOneSend })
            } else if (what === 'append') {
              const more = keyed(names.length + 6, 3).slice(names.length)
              names.push(...more)
              await fleet.stage.append(...more)
            }
          }
          healed = true
          await fleet.heal()
          const parked = fleet.stage.dead.map(({ name }) => name)
          const expected = names.filter((name) => !name.endsWith(':13'))
          expect(fleet.disorder()).toEqual([])
          expect(new Set(fleet.stored)).toEqual(new Set(expected))
          expect(parked.toSorted()).toEqual(names.filter((name) => name.endsWith(':13')).toSorted())
          expect(fleet.stage.pending).toBe(0)
        }),
        { numRuns: RUNS },
      )
    },
    Math.max(60_000, RUNS * 3_000),
  )
})
