import type {
  Broker,
  BrokerContext,
  Delivery,
  DeliverySink,
  Receiver,
  Sender,
  SendOutcome,
  Source,
  Subscription,
} from '../../../src/contract/broker.ts'
import { systemClock, systemRandom } from '../../../src/contract/clock.ts'
import { noCrashes } from '../../../src/contract/crash-points.ts'
import type { HoldfastError } from '../../../src/contract/errors.ts'
import type { Emit, HoldfastEvent } from '../../../src/contract/events.ts'
import type { Destination, Envelope } from '../../../src/contract/message.ts'
import type { OutboxRow } from '../../../src/contract/store.ts'
import { outboxRow } from '../../../src/send/outbox.ts'
import { sqlite, type SqliteBrokerOptions } from '../../../adapters/sqlite/index.ts'
import { draft, type Draft } from '../../conformance/broker/envelopes.ts'

export const TOPIC = 'orders'
export const GROUP = 'billing'
/** Where what is published to the topic waits for the group. */
export const group: Extract<Destination, { kind: 'group' }> = {
  kind: 'group',
  topic: TOPIC,
  group: GROUP,
  delayMs: 0,
}

/** A context that writes its events down. */
export function context(): BrokerContext & { readonly events: HoldfastEvent[] } {
  const events: HoldfastEvent[] = []
  const emit: Emit = Object.assign((event: HoldfastEvent) => void events.push(event), {
    wants: () => true,
  })
  const { signal } = new AbortController()
  return { clock: systemClock, random: systemRandom, crash: noCrashes, emit, signal, events }
}

/** An open broker with one topic and one group. */
export async function openBroker(
  options: SqliteBrokerOptions,
  around: BrokerContext = context(),
): Promise<Broker> {
  const broker = sqlite(options)
  await broker.open(around)
  await declare(broker, TOPIC, [GROUP])
  return broker
}

async function declare(broker: Broker, name: string, groups: readonly string[]): Promise<void> {
  const topic = { name, groups, partitions: null, ordering: 'key', retryLevelsMs: [] } as const
  await broker.provision({ topics: [topic] }, 'create')
}

/** Sends the batch; resolves with one outcome per envelope. */
export function send(
  sender: Sender,
  batch: readonly Envelope[],
  budgetMs = 10_000,
): Promise<readonly SendOutcome[]> {
  return new Promise((resolve) => {
    const outcomes: SendOutcome[] = []
    let open = batch.length
    sender.send(batch, systemClock.now() + budgetMs, (from, to, outcome) => {
      outcomes.fill(outcome, from, to)
      for (let index = from; index < to; index++) outcomes[index] = outcome
      open -= to - from
      if (open === 0) resolve(outcomes)
    })
  })
}

/** 'confirmed', or the error's code. */
export function words(outcomes: readonly SendOutcome[]): readonly string[] {
  return outcomes.map((one) => (one.status === 'confirmed' ? 'confirmed' : one.error.code))
}

/** Envelopes with these ids, of key `k` unless said otherwise. */
export function envelopes(ids: readonly string[], given: Draft = { key: 'k' }): Envelope[] {
  return ids.map((id) => draft(TOPIC, { body: id, ...given, id }))
}

export function rowsFor(ids: readonly string[], given: Draft = { key: 'k' }): OutboxRow[] {
  return envelopes(ids, given).map((one) => outboxRow(one as Envelope & { readonly id: string }))
}

/** What a receiver was given, and everything it was told. */
export class Taker implements DeliverySink {
  readonly deliveries: Delivery[] = []
  readonly lostSources: Source[] = []
  readonly asked: Source[] = []
  readonly ends: (HoldfastError | undefined)[] = []
  receiver!: Receiver
  readonly #onDelivery: (delivery: Delivery) => void

  constructor(onDelivery: (delivery: Delivery) => void = () => undefined) {
    this.#onDelivery = onDelivery
  }

  get ids(): readonly (string | null)[] {
    return this.deliveries.map(({ envelope }) => envelope.id)
  }

  deliver(_source: Source, batch: readonly Delivery[]): void {
    for (const delivery of batch) {
      this.deliveries.push(delivery)
      this.#onDelivery(delivery)
    }
  }

  revoking(sources: readonly Source[]): Promise<void> {
    this.asked.push(...sources)
    return Promise.resolve()
  }

  lost(sources: readonly Source[]): void {
    this.lostSources.push(...sources)
  }

  ended(error?: HoldfastError): void {
    this.ends.push(error)
  }
}

/** Receives into a new taker. */
export async function take(
  broker: Broker,
  onDelivery?: (delivery: Delivery) => void,
  given: Partial<Subscription> = {},
): Promise<Taker> {
  const taker = new Taker(onDelivery)
  const subscription: Subscription = {
    topics: [TOPIC],
    group: GROUP,
    ordering: 'key',
    from: 'now',
    maxHeld: { messages: 1_000, bytes: 16_000_000 },
    ...given,
  }
  taker.receiver = await broker.receive(subscription, taker)
  return taker
}

export const soon = (): number => systemClock.now() + 10_000

/** Waits for a condition, at most 10 s. */
export async function until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (const giveUpAt = soon(); !(await holds());) {
    if (systemClock.now() > giveUpAt) throw new Error(`not within 10 s: ${what}`)
    await pause(5)
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => systemClock.after(ms, resolve))
}

/** The error the promise rejects with; fails when it does not. */
export async function rejection(promise: Promise<unknown>): Promise<HoldfastError> {
  try {
    await promise
  } catch (error) {
    return error as HoldfastError
  }
  throw new Error('it did not reject')
}
