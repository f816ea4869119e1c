import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

import type { Broker } from '../../src/contract/broker.ts'
import type { HoldfastEvent } from '../../src/contract/events.ts'
import { OutcomeUnknownError, PublishRefusedError } from '../../src/contract/errors.ts'
import { ReliableConsumer } from '../../src/consume/consumer.ts'
import { topic, type Topic } from '../../src/contract/topic.ts'
import type { TopicSettings } from '../../src/contract/topology.ts'
import { ReliablePublisher } from '../../src/publish/publisher.ts'
import { check } from '../conformance/checker/checker.ts'
import { contentHash, History, readHistory } from '../conformance/checker/history.ts'
import type { Expectations, Verdict } from '../conformance/checker/verdict.ts'
import { until } from '../brokers/handshake.ts'

/** What is published: `n` is dense from 0 per key. */
interface Item {
  readonly key: string
  readonly n: number
}

/** Where it happens: a broker, and a look at it that knows nothing of the library. */
export interface Ground {
  /** A new way of the library to the broker, through whatever makes faults. */
  broker(): Broker
  /** How its topic is declared; default nothing but its group. */
  readonly settings?: TopicSettings
  /**
   * What is left of a topic and its group, by name, read by a plain client past every proxy; where the
   * broker keeps what was handled, also how many of the confirmed ids it does not have.
   */
  residue(
    topic: string,
    group: string,
    confirmed: ReadonlySet<string>,
  ): Promise<Readonly<Record<string, number>>>
}

/** How much there is to do, and where. */
export interface TrafficOptions {
  readonly ground: Ground
  /** Publishers at work at once, each with a key of its own. Default 40. */
  readonly keys?: number
  /** What each of them waits between two publishes, in milliseconds. Default 100: about 400 messages a second in all. */
  readonly pauseMs?: number
}

/** The group of every traffic. */
export const GROUP = 'a'
const DEADLINE_MS = 120_000
const LIMIT_MS = 180_000
const MEBIBYTE = 1_048_576

/**
 * Publishers and a consumer at work on one ordered topic while something is done to the broker, and
 * the history of what both of them saw.
 */
export class Traffic {
  readonly topicName: string = `orders-${randomBytes(4).toString('hex')}`
  readonly #options: TrafficOptions
  readonly #folder = mkdtempSync(join(tmpdir(), 'holdfast-traffic-'))
  readonly #history: History
  readonly #items: Topic<Item>
  readonly #publisher: ReliablePublisher
  readonly #consumer: ReliableConsumer<Topic<Item>>
  readonly #handled = new Set<string>()
  readonly #confirmed = new Set<string>()
  #deliveries = 0
  // oxlint-disable-next-line no-unused-private-class-members -- read by the loop, which the rule does not see
  #isPublishing = true
  #workers: readonly Promise<void>[] = []
  #memory: NodeJS.Timeout | null = null

  constructor(options: TrafficOptions) {
    this.#options = options
    this.#history = new History(this.#file, this.topicName, 'traffic')
    this.#items = topic<Item>(this.topicName, { key: ({ key }) => key })
    const { ground } = options
    const topics = { [this.topicName]: { ...ground.settings, groups: [GROUP] } }
    this.#publisher = new ReliablePublisher({
      broker: ground.broker(),
      topics,
      deadlineMs: DEADLINE_MS,
      logging: 'silent',
      on: (event) => overhear('publisher', event),
    })
    this.#consumer = new ReliableConsumer({
      broker: ground.broker(),
      topic: this.#items,
      group: GROUP,
      topics,
      logging: 'silent',
      on: (event) => {
        overhear('consumer', event)
        if (event.type === 'source.lost') this.#history.write('source_lost', 'ok', { group: GROUP })
      },
      handler: (item, { id, attempt, redelivered }) => {
        const delivery = String(this.#deliveries++)
        const facts = { msgId: `${id}`, group: GROUP, delivery, attempt, hash: hashOf(item) }
        this.#history.write('deliver', 'ok', { ...facts, redelivered: redelivered !== 'no' })
        this.#history.write('effect', 'ok', facts)
        this.#history.write('settle', 'ok', { ...facts, outcome: 'ack' })
        this.#handled.add(`${id}`)
      },
    })
  }

  get #file(): string {
    return join(this.#folder, 'history.jsonl')
  }

  /** How many messages were confirmed so far. */
  get confirmed(): number {
    return this.#confirmed.size
  }

  async start(): Promise<void> {
    await this.#consumer.start()
    const keys = Array.from({ length: this.#options.keys ?? 40 }, (_, n) => `k${n}`)
    this.#workers = keys.map((key) => this.#publishing(key))
    this.#memory = setInterval(() => {
      const value = Math.ceil(process.memoryUsage.rss() / MEBIBYTE)
      this.#history.write('lib_metric', 'ok', { name: 'rss', value })
    }, 500)
    await this.flows()
  }

  /** Until 100 more messages are confirmed, and 100 more are handled. */
  async flows(): Promise<void> {
    const [confirmed, handled] = [this.#confirmed.size + 100, this.#handled.size + 100]
    await until(
      () =>
        `100 more messages than ${confirmed - 100} and ${handled - 100}: ${this.#confirmed.size} confirmed and ${this.#handled.size} handled so far`,
      () => Promise.resolve(this.#confirmed.size >= confirmed && this.#handled.size >= handled),
      LIMIT_MS,
    )
  }

  /** Something happens to the broker: from its beginning until the broker is as it was. */
  async during(name: string, fault: () => Promise<void>): Promise<void> {
    this.#history.write('fault_start', 'ok', { name })
    await fault()
    this.#history.write('fault_stop', 'ok', { name })
  }

  /** Stops publishing, waits until everything confirmed is handled, looks at what is left, judges. */
  async verdict(expected: Expectations): Promise<Verdict> {
    this.#isPublishing = false
    await Promise.all(this.#workers)
    const { drainedWithinMs = LIMIT_MS } = expected
    await until(
      () => `everything handled: ${this.#handled.size} of ${this.#confirmed.size}`,
      () => Promise.resolve(this.#handled.size >= this.#confirmed.size),
      drainedWithinMs,
    )
    await this.#publisher.close({ timeoutMs: 30_000 })
    await this.#consumer.drain({ timeoutMs: 30_000 })
    this.#history.write('process_end', 'ok')
    const residue = await this.#options.ground.residue(this.topicName, GROUP, this.#confirmed)
    const verdict = check(readHistory([this.#file]), { groups: [GROUP], residue, ...expected })
    assert.deepEqual(verdict.violations, [])
    return verdict
  }

  /** Ends everything, whatever happened. */
  async close(): Promise<void> {
    this.#isPublishing = false
    if (this.#memory !== null) clearInterval(this.#memory)
    const given = { timeoutMs: 5_000 }
    await Promise.allSettled([this.#publisher.close(given), this.#consumer.close(given)])
    await Promise.allSettled(this.#workers)
    rmSync(this.#folder, { recursive: true, force: true })
  }

  async #publishing(key: string): Promise<void> {
    for (let n = 0; this.#isPublishing; n++) {
      await this.#publish({ key, n })
      await pause(this.#options.pauseMs ?? 100)
    }
  }

  async #publish(item: Item): Promise<void> {
    const { key, n } = item
    const msgId = `p-${key}-${n}`
    const facts = { msgId, producer: 'p', key, n, hash: hashOf(item) }
    this.#history.write('publish', 'invoke', facts)
    try {
      await this.#publisher.publish(this.#items, item, { id: msgId })
      this.#confirmed.add(msgId)
      this.#history.write('publish', 'ok', facts)
    } catch (error) {
      const isRefused = error instanceof PublishRefusedError
      const outcome = isRefused || error instanceof OutcomeUnknownError ? error.code : 'bug'
      const end = { ...facts, outcome, errClass: String(error) }
      this.#history.write('publish', isRefused ? 'fail' : 'info', end)
    }
  }
}

/** With `HOLDFAST_EVENTS=true` it can be read what the library said, and when, beside its everyday work. */
function overhear(who: string, event: HoldfastEvent): void {
  if (process.env['HOLDFAST_EVENTS'] !== 'true' || /^message|confirmed$/.test(event.type)) return
  const told = JSON.stringify(event, (_, value: unknown) =>
    value instanceof Error ? value.message : value,
  )
  console.log(`${Math.round(performance.now())} ${who} ${told}`)
}

function hashOf(item: Item): string {
  const body = Buffer.from(JSON.stringify(item))
  return contentHash({ body, key: Buffer.from(item.key), headers: [] })
}

/** Runs the traffic around `act`, and ends it whatever happens. */
export async function inTraffic(
  options: TrafficOptions,
  act: (traffic: Traffic) => Promise<void>,
): Promise<void> {
  const traffic = new Traffic(options)
  try {
    await traffic.start()
    await act(traffic)
  } finally {
    await traffic.close()
  }
}
