import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'

import { sleep, systemClock, type Clock } from '../../../src/contract/clock.ts'
import type { TopicTopology } from '../../../src/contract/topology.ts'
import type { Case, Need } from '../case.ts'
import { eventually, within } from '../wait.ts'
import { Connection } from './connection.ts'
import type { BrokerFaults, BrokerHarness } from './harness.ts'

const LIMIT_MS = 10_000
const QUIET_MS = 60
const SHORT_RETRY_MS = 200

/**
 * What a case works on: connections, topics and waits, all bounded and all cleaned up when the case
 * ends. At the end it fails when a sender or receiver broke a rule of its interface on the way, even
 * where the case looked for something else.
 */
export class Stage {
  readonly harness: BrokerHarness
  readonly clock: Clock
  /** How long anything may take. */
  readonly limitMs: number
  /** A retry delay the broker keeps, in milliseconds. */
  readonly shortRetryMs: number
  readonly #patience: number
  readonly #connections: Connection[] = []
  readonly #cleanUps: (() => void | Promise<void>)[] = []

  constructor(harness: BrokerHarness) {
    this.harness = harness
    this.clock = harness.clock ?? systemClock
    this.#patience = harness.patience ?? 1
    this.limitMs = LIMIT_MS * this.#patience
    this.shortRetryMs = harness.shortRetryMs ?? SHORT_RETRY_MS
  }

  /** One more connection to the store, open. */
  async connect(): Promise<Connection> {
    const connection = new Connection(await this.harness.connect(), this)
    this.#connections.push(connection)
    await this.within('open()', connection.open())
    return connection
  }

  /** The instant until which the next step may take. */
  deadline(ms: number = this.limitMs): number {
    return this.clock.now() + ms
  }

  /** A topic nobody else uses, not declared yet. */
  topicName(): string {
    return this.harness.topicName?.() ?? `conformance-${randomBytes(8).toString('hex')}`
  }

  /** Declares a new topic through the connection: one group `a` unless said otherwise. */
  async topic(
    through: Connection,
    given: Partial<Omit<TopicTopology, 'name'>> = {},
  ): Promise<string> {
    const name = this.topicName()
    await through.declare({ name, ...given })
    return name
  }

  /** The fault hook of that name; only for cases that need it. */
  fault<K extends keyof BrokerFaults>(name: K): NonNullable<BrokerFaults[K]> {
    const hook = this.harness.faults?.[name]
    assert.ok(hook, `the case uses the fault ${name} and has to need it`)
    return hook
  }

  /** Runs when the case ends, whatever its result. */
  afterwards(cleanUp: () => void | Promise<void>): void {
    this.#cleanUps.push(cleanUp)
  }

  /** Waits for the condition within the limit, and fails with the text when it does not hold by then. */
  eventually(what: () => string, condition: () => boolean | Promise<boolean>): Promise<void> {
    return eventually(this.clock, this.limitMs, what, condition)
  }

  /** Awaits the promise within the limit. */
  within<T>(what: string, promise: Promise<T>): Promise<T> {
    return within(this.clock, this.limitMs, what, promise)
  }

  /**
   * Watches for something that must not happen: `count()` has to stand still for a while. The only
   * wait that passes by time, since nothing tells that nothing will come.
   */
  async quiet(what: string, count: () => number): Promise<void> {
    const before = count()
    const until = this.clock.now() + QUIET_MS * this.#patience
    while (this.clock.now() < until) {
      await sleep(this.clock, 5)
      assert.equal(count(), before, what)
    }
  }

  /** Undoes everything; rejects with what could not be undone and with every breach seen on the way. */
  async end(): Promise<void> {
    const problems: unknown[] = []
    for (const cleanUp of this.#cleanUps.toReversed()) {
      await this.#attempt(problems, 'cleaning up', async () => cleanUp())
    }
    for (const connection of this.#connections) {
      await this.#attempt(problems, 'closing', () => connection.close())
      problems.push(
        ...connection.breaches.map((breach) => new assert.AssertionError({ message: breach })),
      )
    }
    if (problems.length === 1) throw problems[0] as Error
    if (problems.length > 1) throw new AggregateError(problems, problems.map(String).join('\n'))
  }

  async #attempt(problems: unknown[], what: string, step: () => Promise<void>): Promise<void> {
    try {
      await this.within(what, step())
    } catch (error) {
      problems.push(error)
    }
  }
}

/** Makes a case of the broker suite: the name is the sentence that has to hold. */
export function brokerCase(
  name: string,
  needs: readonly Need<BrokerHarness>[],
  act: (stage: Stage) => Promise<void>,
): Case<BrokerHarness> {
  return { name, needs, run: (harness) => onStage(new Stage(harness), act) }
}

async function onStage(stage: Stage, act: (stage: Stage) => Promise<void>): Promise<void> {
  try {
    await act(stage)
  } catch (error) {
    // The case's own failure says more than what is left over because of it.
    await stage.end().catch(() => undefined)
    throw error
  }
  await stage.end()
}
