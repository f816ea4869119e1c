import {
  memoryDatabase,
  memoryOutbox,
  type MemoryDatabase,
  type MemoryOutbox,
  type MemoryTransaction,
} from '../../adapters/memory/index.ts'
import type { Capabilities } from '../../src/contract/capabilities.ts'
import type { CrashPoint } from '../../src/contract/crash-points.ts'
import type { EventType, HoldfastEvent } from '../../src/contract/events.ts'
import type { RelayOptions } from '../../src/publish/relay-options.ts'
import { OutboxRelay } from '../../src/publish/relay.ts'
import { outboxRow } from '../../src/send/outbox.ts'
import { envelope } from '../send/stage.ts'
import { ScriptedBroker, type Answer } from '../support/scripted-broker.ts'
import { seededRandom } from '../support/seeded-random.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

type Given = Partial<RelayOptions<MemoryTransaction>> & {
  readonly capabilities?: Partial<Capabilities>
  readonly answer?: Answer | null
}

/** One relay, with its own connection to the broker and its own store on the shared database. */
export class RelayRig {
  readonly events: HoldfastEvent[] = []
  readonly crashes: CrashPoint[] = []
  readonly broker: ScriptedBroker
  readonly store: MemoryOutbox
  readonly relay: OutboxRelay<MemoryTransaction>

  constructor(clock: VirtualClock, database: MemoryDatabase, seed: number, given: Given = {}) {
    const { capabilities, answer = null, ...options } = given
    this.broker = new ScriptedBroker(clock, capabilities, answer)
    this.store = memoryOutbox({ database })
    this.relay = new OutboxRelay({
      broker: this.broker,
      outbox: this.store,
      logging: 'silent',
      on: (event) => this.events.push(event),
      clock,
      random: seededRandom(seed),
      crash: { at: (point) => void this.crashes.push(point) },
      ...options,
    })
  }

  /** Bodies sent so far, in order. */
  get sent(): string[] {
    return this.broker.sends.flatMap(({ bodies }) => bodies)
  }

  of<Type extends EventType>(type: Type): Extract<HoldfastEvent, { type: Type }>[] {
    return this.events.filter(
      (event): event is Extract<HoldfastEvent, { type: Type }> => event.type === type,
    )
  }
}

/** An outbox in memory and relays on it, in virtual time. */
export class RelayStage {
  readonly clock: VirtualClock = new VirtualClock()
  readonly database: MemoryDatabase = memoryDatabase({ buckets: 8 })
  readonly rigs: RelayRig[] = []
  readonly #writer: MemoryOutbox = memoryOutbox({ database: this.database })

  /** A relay that has started. */
  async relay(given: Given = {}): Promise<RelayRig> {
    const rig = this.idle(given)
    await this.clock.run(rig.relay.start())
    await this.clock.settle()
    return rig
  }

  /** A relay that has not. */
  idle(given: Given = {}): RelayRig {
    const rig = new RelayRig(this.clock, this.database, this.rigs.length + 1, given)
    this.rigs.push(rig)
    return rig
  }

  /** Appends one row per name; `k:1` is of key `k`, names without a colon are unordered. */
  async append(...names: string[]): Promise<void> {
    await this.appendTo('orders', ...names)
  }

  async appendTo(topic: string, ...names: string[]): Promise<void> {
    const rows = names.map((name) => {
      const key = name.includes(':') ? (name.split(':')[0] ?? null) : null
      return outboxRow(envelope(name, key, topic))
    })
    this.database.adopt(this.clock)
    await this.clock.run(this.database.transaction((tx) => this.#writer.append(tx, rows)))
  }

  async schedule(name: string, delayMs: number): Promise<void> {
    this.database.adopt(this.clock)
    const at = { deliverAtMs: this.clock.wallMs() + delayMs }
    const rows = [outboxRow(envelope(name, null, 'orders', at))]
    await this.clock.run(this.database.transaction((tx) => this.#writer.append(tx, rows)))
  }

  /** Names of the rows that are still in the outbox. */
  get pending(): number {
    return this.database.outbox.pending.size
  }

  get dead(): { readonly name: string; readonly reason: string }[] {
    return this.database.outbox.dead.map(({ envelope: one, reason }) => ({
      name: one.id,
      reason,
    }))
  }

  /** Closes every relay; what is armed then was leaked. */
  async leakedTimers(): Promise<number> {
    await this.clock.run(
      Promise.all(this.rigs.map(({ relay }) => relay.close({ timeoutMs: 1_000 }))),
    )
    await this.clock.settle()
    return this.clock.timers
  }
}
