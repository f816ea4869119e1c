import assert from 'node:assert/strict'

import type {
  Broker,
  BrokerContext,
  Sender,
  SendOutcome,
  Subscription,
} from '../../../src/contract/broker.ts'
import type { Capabilities } from '../../../src/contract/capabilities.ts'
import { systemRandom } from '../../../src/contract/clock.ts'
import { noCrashes } from '../../../src/contract/crash-points.ts'
import type { Emit, HoldfastEvent } from '../../../src/contract/events.ts'
import type { Envelope } from '../../../src/contract/message.ts'
import type { Finding, TopicTopology } from '../../../src/contract/topology.ts'
import { Listener, type OnReceived, type OnRevoking } from './listener.ts'
import { WatchedSend } from './reports.ts'
import type { Stage } from './stage.ts'

type Purpose = Parameters<Broker['sender']>[0]

/** What a case may ask of a subscription beside its topic. */
export interface ListenOptions {
  readonly group?: string
  readonly ordering?: Subscription['ordering']
  readonly from?: Subscription['from']
  readonly maxHeld?: Subscription['maxHeld']
  /** Default: release what is held of them. */
  readonly onRevoking?: OnRevoking
  /** Default: hold every delivery until the case settles it. */
  readonly onReceived?: (received: Parameters<OnReceived>[0], listener: Listener) => void
}

/** Settles every delivery at once. */
export const ackAtOnce = (received: Parameters<OnReceived>[0], listener: Listener): void =>
  listener.ack(received)

const UNBOUNDED = { messages: 100_000, bytes: 256 * 1024 * 1024 }

/** One connection of a case: the broker object, what was opened through it, and what it told. */
export class Connection {
  readonly broker: Broker
  readonly events: HoldfastEvent[] = []
  readonly breaches: string[] = []
  readonly #stage: Stage
  readonly #abort = new AbortController()
  readonly #senders = new Map<Purpose, Sender>()
  readonly #sends: WatchedSend[] = []
  readonly #listeners: Listener[] = []
  #capabilities: Capabilities | null = null
  #closed = false

  constructor(broker: Broker, stage: Stage) {
    this.broker = broker
    this.#stage = stage
  }

  get capabilities(): Capabilities {
    assert.ok(this.#capabilities, 'open() comes first')
    return this.#capabilities
  }

  get context(): BrokerContext {
    const emit: Emit = Object.assign((event: HoldfastEvent) => void this.events.push(event), {
      wants: () => true,
    })
    const signal = this.#abort.signal
    return { clock: this.#stage.clock, random: systemRandom, crash: noCrashes, emit, signal }
  }

  async open(): Promise<void> {
    this.#capabilities = await this.broker.open(this.context)
  }

  /** Creates the topic; fails when provisioning finds an error. */
  async declare(given: Partial<TopicTopology> & { readonly name: string }): Promise<void> {
    const findings = await this.provision(given, 'create')
    const errors = findings.filter(({ severity }) => severity === 'error')
    assert.deepEqual(errors, [], `provisioning ${given.name}`)
  }

  /** What provisioning the topic finds; group `a`, no partitions and no levels unless said otherwise. */
  provision(
    given: Partial<TopicTopology> & { readonly name: string },
    mode: 'create' | 'verify',
  ): Promise<readonly Finding[]> {
    const topology = { topics: [declared(this.capabilities, given)] }
    return this.#stage.within('provision()', this.broker.provision(topology, mode))
  }

  sender(purpose: Purpose = 'publish'): Sender {
    const known = this.#senders.get(purpose)
    if (known !== undefined) return known
    const sender = this.broker.sender(purpose)
    this.#senders.set(purpose, sender)
    return sender
  }

  /** Hands the batch over and returns at once; the watch collects the outcomes. */
  start(batch: readonly Envelope[], budgetMs?: number, purpose?: Purpose): WatchedSend {
    const watch = new WatchedSend(this.sender(purpose), batch, this.#stage.deadline(budgetMs))
    this.#sends.push(watch)
    return watch
  }

  /** Sends the batch as it is and waits for every outcome. */
  async outcomes(
    batch: readonly Envelope[],
    budgetMs?: number,
    purpose?: Purpose,
  ): Promise<readonly SendOutcome[]> {
    const watch = this.start(batch, budgetMs, purpose)
    await this.#stage.eventually(
      () => `${watch.open} of ${batch.length} envelopes have no outcome`,
      () => watch.open === 0,
    )
    return watch.outcomes as readonly SendOutcome[]
  }

  /**
   * Sends all and expects every one to be confirmed. Where the broker cannot keep a run of one key
   * together, hands over one unresolved envelope per key at a time, as the core would.
   */
  async confirmed(batch: readonly Envelope[], purpose?: Purpose): Promise<void> {
    for (const wave of this.capabilities.keyRunsInOneSend ? [batch] : waves(batch)) {
      for (const outcome of await this.outcomes(wave, undefined, purpose)) assertConfirmed(outcome)
    }
  }

  /** Subscribes a new listener to the topic; group `a` and no ordering unless said otherwise. */
  async listen(topic: string | readonly string[], options: ListenOptions = {}): Promise<Listener> {
    const { onReceived, onRevoking } = options
    const listener: Listener = new Listener(
      this.#stage.clock,
      (received) => onReceived?.(received, listener),
      onRevoking,
    )
    const receiver = await this.#stage.within(
      'receive()',
      this.broker.receive(this.#subscription(topic, options), listener),
    )
    listener.attach(receiver)
    this.#listeners.push(listener)
    return listener
  }

  /** Messages the broker has for the group; null where it cannot tell. */
  async depth(topic: string, group = 'a'): Promise<number | null> {
    const { inspect } = this.broker
    if (inspect === undefined) return null
    return inspect.depth({ kind: 'group', topic, group, delayMs: 0 })
  }

  /** Closes broker, senders and receivers, and collects what they did wrong. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    try {
      await this.broker.close(this.#stage.deadline())
    } finally {
      this.#abort.abort(new Error('the case has ended'))
      for (const watch of this.#sends) {
        watch.senderClosed()
        this.breaches.push(...watch.breaches)
      }
      for (const listener of this.#listeners) this.breaches.push(...listener.breaches)
    }
  }

  #subscription(topic: string | readonly string[], options: ListenOptions): Subscription {
    const { ordering } = this.capabilities
    return {
      topics: typeof topic === 'string' ? [topic] : topic,
      group: options.group ?? 'a',
      ordering: options.ordering ?? (ordering.includes('none') ? 'none' : ordering[0]!),
      from: options.from ?? 'now',
      maxHeld: options.maxHeld ?? UNBOUNDED,
    }
  }
}

/** Fails with the outcome's own error, so that the report says why. */
export function assertConfirmed(outcome: SendOutcome): void {
  if (outcome.status !== 'confirmed') {
    assert.fail(`${outcome.status}: ${outcome.error.code}: ${outcome.error.message}`)
  }
}

/** The topology of a case's topic, with everything it did not say filled in. */
export function declared(
  { ordering }: Capabilities,
  given: Partial<TopicTopology> & { readonly name: string },
): TopicTopology {
  const plain = ordering.includes('none') ? 'none' : ordering[0]!
  return { groups: ['a'], partitions: null, ordering: plain, retryLevelsMs: [], ...given }
}

/** Splits a batch so that no part holds two envelopes of one key; order within a key is kept. */
function waves(batch: readonly Envelope[]): readonly (readonly Envelope[])[] {
  const parts: Envelope[][] = []
  const seen = new Map<string, number>()
  for (const envelope of batch) {
    const wave = envelope.orderKey === null ? 0 : (seen.get(envelope.orderKey) ?? 0)
    if (envelope.orderKey !== null) seen.set(envelope.orderKey, wave + 1)
    parts[wave] = [...(parts[wave] ?? []), envelope]
  }
  return parts
}
