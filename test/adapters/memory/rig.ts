import {
  memory,
  type MemoryBroker,
  type MemoryBrokerOptions,
} from '../../../adapters/memory/index.ts'
import type {
  Delivery,
  DeliverySink,
  Receiver,
  Sender,
  SendOutcome,
  Source,
  Subscription,
} from '../../../src/contract/broker.ts'
import { systemRandom } from '../../../src/contract/clock.ts'
import { noCrashes } from '../../../src/contract/crash-points.ts'
import type { HoldfastError } from '../../../src/contract/errors.ts'
import type { HoldfastEvent } from '../../../src/contract/events.ts'
import type { Destination, Envelope, Headers } from '../../../src/contract/message.ts'
import type { TopicTopology } from '../../../src/contract/topology.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'

/** An open memory broker on a clock that the test moves, with topic `t` and group `g`. */
export class Rig {
  readonly clock: VirtualClock
  readonly broker: MemoryBroker
  readonly events: HoldfastEvent[] = []
  readonly abort: AbortController = new AbortController()

  constructor(options: MemoryBrokerOptions = {}, clock: VirtualClock = new VirtualClock()) {
    this.clock = clock
    this.broker = memory(options)
  }

  static async open(options: MemoryBrokerOptions = {}, clock?: VirtualClock): Promise<Rig> {
    const rig = new Rig(options, clock)
    await rig.open()
    await rig.declare({})
    return rig
  }

  async open(): Promise<void> {
    const emit = Object.assign((event: HoldfastEvent) => void this.events.push(event), {
      wants: () => true,
    })
    const { clock } = this
    const { signal } = this.abort
    await this.broker.open({ clock, random: systemRandom, crash: noCrashes, emit, signal })
  }

  async declare(topic: Partial<TopicTopology>): Promise<void> {
    const plain: TopicTopology = {
      name: 't',
      groups: ['g'],
      partitions: null,
      ordering: 'none',
      retryLevelsMs: [],
    }
    await this.broker.provision({ topics: [{ ...plain, ...topic }] }, 'create')
  }

  /** A second connection to the same broker. */
  async another(): Promise<Rig> {
    return Rig.open({ sameAs: this.broker }, this.clock)
  }

  /** Starts a send; the outcomes come into the returned list. */
  start(batch: readonly Envelope[], budgetMs = 10_000, sender?: Sender): Outcomes {
    return new Outcomes(sender ?? this.broker.sender('publish'), batch, this.clock.now() + budgetMs)
  }

  /** Sends and waits for this turn; returns one word for each envelope. */
  async send(batch: readonly Envelope[], budgetMs?: number): Promise<readonly string[]> {
    const outcomes = this.start(batch, budgetMs)
    await this.clock.settle()
    return outcomes.words
  }

  async listen(options: Partial<Subscription> = {}): Promise<Ear> {
    const ear = new Ear()
    const plain: Subscription = {
      topics: ['t'],
      group: 'g',
      ordering: 'none',
      from: 'now',
      maxHeld: { messages: 1_000, bytes: 1_000_000 },
    }
    ear.receiver = await this.broker.receive({ ...plain, ...options }, ear)
    await this.clock.settle()
    return ear
  }

  /** Closes within 1 s of virtual time. */
  close(): Promise<void> {
    return this.clock.run(this.broker.close(this.clock.now() + 1_000))
  }
}

/** What became of a send. */
export class Outcomes {
  readonly all: (SendOutcome | undefined)[]

  constructor(sender: Sender, batch: readonly Envelope[], deadline: number) {
    this.all = batch.map(() => undefined)
    sender.send(batch, deadline, (from, to, outcome) => {
      for (let at = from; at < to; at++) {
        if (this.all[at] !== undefined) throw new Error(`envelope ${at} was reported twice`)
        this.all[at] = outcome
      }
    })
  }

  /** 'confirmed', 'open', or the code of the error. */
  get words(): readonly string[] {
    return this.all.map((one) => {
      if (one === undefined) return 'open'
      return one.status === 'confirmed' ? 'confirmed' : `${one.status} ${one.error.code}`
    })
  }
}

/** A sink that keeps what it hears. */
export class Ear implements DeliverySink {
  receiver!: Receiver
  readonly deliveries: Delivery[] = []
  readonly lostSources: Source[] = []
  readonly revoked: Source[] = []
  readonly ends: (HoldfastError | undefined)[] = []
  /** What `revoking` waits for. */
  onRevoking: () => Promise<void> = () => Promise.resolve()
  onDelivery: (delivery: Delivery) => void = () => undefined

  deliver(_source: Source, batch: readonly Delivery[]): void {
    for (const delivery of batch) {
      this.deliveries.push(delivery)
      this.onDelivery(delivery)
    }
  }

  revoking(sources: readonly Source[]): Promise<void> {
    this.revoked.push(...sources)
    return this.onRevoking()
  }

  lost(sources: readonly Source[]): void {
    this.lostSources.push(...sources)
  }

  ended(error?: HoldfastError): void {
    this.ends.push(error)
  }

  /** Bodies in the order in which they came. */
  get bodies(): readonly string[] {
    return this.deliveries.map((delivery) => bodyOf(delivery.envelope))
  }
}

export function bodyOf({ body }: Envelope): string {
  return body === null ? '(tombstone)' : Buffer.from(body).toString()
}

let made = 0

/** An envelope to topic `t`. */
export function envelope(
  body: string | null,
  given: {
    readonly key?: string
    readonly to?: Destination
    readonly headers?: Headers
    readonly deliverAtMs?: number
  } = {},
): Envelope {
  return {
    id: `m${made++}`,
    type: 't',
    producer: 'test',
    to: given.to ?? { kind: 'topic', topic: 't' },
    key: given.key === undefined ? null : Buffer.from(given.key),
    orderKey: given.key ?? null,
    body: body === null ? null : Buffer.from(body),
    headers: given.headers ?? [],
    contentType: null,
    timeMs: null,
    deliverAtMs: given.deliverAtMs ?? null,
  }
}

/** Envelopes with the bodies `<prefix>0`, `<prefix>1`, … */
export function envelopes(count: number, prefix = '', key?: string): readonly Envelope[] {
  return Array.from({ length: count }, (_, n) =>
    envelope(`${prefix}${n}`, key === undefined ? {} : { key }),
  )
}
