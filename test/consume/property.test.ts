import fc from 'fast-check'
import { expect, it } from 'vitest'
import {
  memoryDatabase,
  type MemoryDatabase,
  memoryInbox,
  type MemoryTransaction,
} from '../../adapters/memory/index.ts'
import type { Delivery, DeliverySink } from '../../src/contract/broker.ts'
import { PermanentError } from '../../src/contract/errors.ts'
import { constant } from '../../src/policy/backoff.ts'
import { type Order, Orders, Stage } from './stage.ts'

const RETRY_MS = 1_300
const keys = ['a', 'b', 'c']

/** What a handler does at a try. `hang` ignores its signal and ends long after its deadline. */
const deed = fc.constantFrom('ok', 'ok', 'ok', 'slow', 'fail', 'failSlow', 'permanent', 'hang')
type Deed = 'ok' | 'slow' | 'fail' | 'failSlow' | 'permanent' | 'hang'

const fault = fc.record({
  atMs: fc.integer({ min: 0, max: 6_000 }),
  kind: fc.constantFrom(
    'lose',
    'withhold',
    'redeliver',
    'revoke',
    'disconnect',
    'commit',
    'dead',
    'pause',
  ),
})

const scenario = fc.record({
  messages: fc.array(
    fc.record({ key: fc.constantFrom(...keys), deeds: fc.array(deed, { maxLength: 4 }) }),
    { minLength: 1, maxLength: 25 },
  ),
  faults: fc.array(fault, { maxLength: 6 }),
  concurrency: fc.integer({ min: 1, max: 5 }),
  transactionSize: fc.integer({ min: 1, max: 8 }),
  prefetch: fc.integer({ min: 8, max: 40 }),
  inbox: fc.boolean(),
  capabilities: fc.record({
    retryDelay: fc.constantFrom('native', 'levels', 'none'),
    pause: fc.constantFrom('source', 'all'),
    progress: fc.record({ outOfOrder: fc.constantFrom('any', 'encoded', 'none') }),
  }),
})
type Scenario = typeof scenario extends fc.Arbitrary<infer T> ? T : never

/** Everything that happened, seen from outside the consumer. */
class Witness {
  readonly stage: Stage
  readonly database: MemoryDatabase
  readonly runs: Order[] = []
  readonly effects: Order[] = []
  readonly problems: string[] = []
  readonly #running = new Map<string, number>()
  readonly #failedAt = new Map<number, number>()
  #disturbances = 0
  readonly struck: Set<string> = new Set()

  constructor(stage: Stage) {
    this.stage = stage
    this.database = memoryDatabase({ clock: stage.clock, lockWaitMs: 200 })
  }

  /** Each delivery is settled at most once, and never when it is no longer ours. */
  watchSettling(): void {
    const { broker } = this.stage
    const receive = broker.receive.bind(broker)
    broker.receive = (subscription, sink) => receive(subscription, this.#sink(sink))
  }

  #sink(sink: DeliverySink): DeliverySink {
    const lost = new Set<object>()
    return {
      deliver: (source, batch) =>
        sink.deliver(
          source,
          batch.map((one) => this.#watched(one, lost)),
        ),
      revoking: async (sources, deadline) => {
        await sink.revoking(sources, deadline)
        for (const source of sources) lost.add(source)
      },
      lost: (sources) => {
        for (const source of sources) lost.add(source)
        sink.lost(sources)
      },
      ended: (error) => sink.ended(error),
    }
  }

  #watched(delivery: Delivery, lost: ReadonlySet<object>): Delivery {
    let settles = 0
    const settle = (how: string): void => {
      if (++settles > 1) this.problems.push(`${delivery.at} settled ${settles} times (${how})`)
      if (lost.has(delivery.source)) this.problems.push(`${delivery.at} ${how} after it was lost`)
      if (how === 'ack') this.#checkAck(delivery)
    }
    return {
      envelope: delivery.envelope,
      source: delivery.source,
      at: delivery.at,
      attempt: delivery.attempt,
      redelivered: delivery.redelivered,
      ack: () => {
        settle('ack')
        delivery.ack()
      },
      release: () => {
        settle('release')
        delivery.release()
      },
      retry: (ms) => {
        settle('retry')
        return delivery.retry?.(ms) ?? false
      },
    }
  }

  /** Acknowledged only with the effect committed or the dead letter stored. */
  #checkAck({ envelope, at }: Delivery): void {
    const { n } = JSON.parse(Buffer.from(envelope.body!).toString()) as Order
    const done = this.done().some((order) => order.n === n)
    const isDead = this.stage.dead().some(({ id }) => id === envelope.id)
    if (!done && !isDead) this.problems.push(`${at} (${n}) acknowledged with no effect`)
  }

  done(): Order[] {
    const committed = this.database.rows('effects').map(([, row]) => row as Order)
    return [...this.effects, ...committed]
  }

  /** Returns what `end` needs to know of the beginning. */
  begin(order: Order): number {
    const running = (this.#running.get(order.customer) ?? 0) + 1
    this.#running.set(order.customer, running)
    if (running > 1) this.problems.push(`two handlers of ${order.customer} at once (${order.n})`)
    if (!this.runs.some(({ n }) => n === order.n)) this.runs.push(order)
    const earliest = this.#failedAt.get(order.n) ?? 0
    // Two copies of it have tries of their own; a try whose transaction the database lost does not count.
    const isTwofold = this.struck.has('redeliver') || this.struck.has('commit')
    if (this.stage.clock.now() < earliest && !isTwofold)
      this.problems.push(`${order.n} was retried early`)
    return this.#disturbances
  }

  end(order: Order, failed: boolean, begun: number): void {
    this.#running.set(order.customer, this.#running.get(order.customer)! - 1)
    if (failed && begun === this.#disturbances)
      this.#failedAt.set(order.n, this.stage.clock.now() + RETRY_MS)
  }

  /** A message may come again at once when its source was taken away. */
  disturbed(): void {
    this.#disturbances++
    this.#failedAt.clear()
  }
}

async function handle(
  witness: Witness,
  deeds: Deed[],
  order: Order,
  tx: MemoryTransaction | undefined,
): Promise<void> {
  const what = deeds.shift() ?? 'ok'
  const { clock } = witness.stage
  const later = (ms: number): Promise<void> => new Promise((resolve) => clock.after(ms, resolve))
  const begun = witness.begin(order)
  let failed = what === 'fail' || what === 'failSlow'
  try {
    if (what === 'slow' || what === 'failSlow') await later(150)
    if (what === 'hang') await later(2_700)
    if (failed) throw new Error('not yet')
    if (what === 'permanent') throw new PermanentError('never')
    if (tx === undefined) witness.effects.push(order)
    else tx.add('effects', order)
  } catch (error) {
    failed &&= !(error instanceof PermanentError)
    throw error
  } finally {
    witness.end(order, failed, begun)
  }
}

function strike(witness: Witness, kind: string, pause: (ms: number) => void): void {
  witness.struck.add(kind)
  const { broker, clock } = witness.stage
  const { faults } = witness.database
  switch (kind) {
    case 'lose':
      broker.faults.loseSources()
      return witness.disturbed()
    case 'withhold':
      broker.faults.loseSources({ withhold: true })
      clock.after(700, () => broker.faults.regain())
      return witness.disturbed()
    case 'redeliver':
      broker.faults.redeliver()
      return witness.disturbed()
    case 'revoke':
      void broker.faults.revokeSources()
      return witness.disturbed()
    case 'disconnect':
      faults.disconnect()
      clock.after(900, () => faults.reconnect())
      return witness.disturbed()
    case 'commit':
      faults.loseCommits('committed')
      faults.loseCommits('rolled back')
      faults.failCommits()
      return witness.disturbed()
    case 'dead':
      broker.faults.refuseSends({ match: ({ to }) => to.kind !== 'topic', retryable: false })
      return
    default:
      pause(400)
  }
}

async function play({
  messages,
  faults,
  inbox,
  capabilities,
  ...options
}: Scenario): Promise<void> {
  const stage = await Stage.open({ capabilities: { ...capabilities, hold: { maxMessages: 12 } } })
  const witness = new Witness(stage)
  witness.watchSettling()
  const deeds = new Map(messages.map((one, n) => [n, [...one.deeds] as Deed[]]))
  const common = {
    topic: Orders,
    concurrency: options.concurrency,
    handlerTimeoutMs: 1_000,
    prefetch: { messages: options.prefetch },
    retry: { attempts: 4, backoff: constant(RETRY_MS) },
  } as const
  const consumer = inbox
    ? stage.consumer({
        ...common,
        inbox: memoryInbox({ database: witness.database }),
        transactionSize: options.transactionSize,
        handler: (order, { tx }) => handle(witness, deeds.get(order.n)!, order, tx),
      })
    : stage.consumer({
        ...common,
        handler: (order) => handle(witness, deeds.get(order.n)!, order, undefined),
      })
  await stage.clock.run(consumer.start())
  const { clock } = stage
  for (const { atMs, kind } of faults) {
    clock.after(atMs, () =>
      strike(witness, kind, (ms) => {
        consumer.pause()
        clock.after(ms, () => consumer.resume())
      }),
    )
  }
  for (const [n, { key }] of messages.entries()) await stage.send(Orders, { customer: key, n })
  await clock.advance(7_000)
  await stage.settled()
  await stage.clock.run(consumer.drain())
  judge(witness, messages.length, inbox)
  await stage.close()
  expect(clock.timers).toBe(0)
}

function judge(witness: Witness, count: number, inbox: boolean): void {
  const { stage, runs, problems } = witness
  expect(problems).toEqual([])
  const done = witness.done()
  const dead = stage
    .dead()
    .map(({ body }) => (JSON.parse(Buffer.from(body!).toString()) as Order).n)
  const ends = new Set([...dead, ...done.map(({ n }) => n)])
  expect(ends.size, 'messages with an effect or a dead letter').toBe(count)
  for (const key of keys) {
    expect(runs.filter(isOf(key)), `first tries of ${key}`).toSatisfy(isAscending)
    // What comes again after its dead letter was stored is a replay: order does not hold for it.
    const effects = done.filter((order) => isOf(key)(order) && !dead.includes(order.n))
    if (inbox) expect(effects, `effects of ${key}`).toSatisfy(isAscending)
  }
  expect(stage.told('warning')).toEqual([])
  if (!witness.struck.has('redeliver')) expect(stage.told('settle.stale')).toEqual([])
}

function isOf(key: string): (order: Order) => boolean {
  return ({ customer }) => customer === key
}

function isAscending(orders: readonly Order[]): boolean {
  return orders.every(({ n }, at) => at === 0 || orders[at - 1]!.n < n)
}

it(
  'keeps its promises whatever handlers, broker and database do',
  { timeout: 120_000 },
  async () => {
    await fc.assert(fc.asyncProperty(scenario, play), { numRuns: 150 })
  },
)
