import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'

import type { TopicTopology } from '../../../src/contract/topology.ts'
import type { Case, Need } from '../case.ts'
import { Limits } from '../limits.ts'
import { actThenEnd, Problems } from '../problems.ts'
import { Connection } from './connection.ts'
import type { BrokerFaults, BrokerHarness } from './harness.ts'

const SHORT_RETRY_MS = 200

/**
 * What a case works on: connections, topics and waits, all bounded and all cleaned up when the case
 * ends. At the end it fails when a sender or receiver broke a rule of its interface on the way, even
 * where the case looked for something else.
 */
export class Stage extends Limits {
  readonly harness: BrokerHarness
  /** A retry delay the broker keeps, in milliseconds. */
  readonly shortRetryMs: number
  readonly #connections: Connection[] = []
  readonly #cleanUps: (() => void | Promise<void>)[] = []

  constructor(harness: BrokerHarness) {
    super(harness)
    this.harness = harness
    this.shortRetryMs = harness.shortRetryMs ?? SHORT_RETRY_MS
  }

  /** One more connection to the store, open. */
  async connect(): Promise<Connection> {
    const connection = new Connection(await this.harness.connect(), this)
    this.#connections.push(connection)
    await this.within('open()', connection.open())
    return connection
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

  /** Undoes everything; rejects with what could not be undone and with every breach seen on the way. */
  async end(): Promise<void> {
    const problems = new Problems()
    for (const cleanUp of this.#cleanUps.toReversed()) {
      await problems.during(() => this.within('cleaning up', Promise.resolve(cleanUp())))
    }
    for (const connection of this.#connections) {
      await problems.during(() => this.within('closing', connection.close()))
      problems.add(...connection.breaches.map((message) => new assert.AssertionError({ message })))
    }
    problems.raise()
  }
}

/** Makes a case of the broker suite: the name is the sentence that has to hold. */
export function brokerCase(
  name: string,
  needs: readonly Need<BrokerHarness>[],
  act: (stage: Stage) => Promise<void>,
): Case<BrokerHarness> {
  const run = (harness: BrokerHarness): Promise<void> => {
    const stage = new Stage(harness)
    return actThenEnd(
      () => act(stage),
      () => stage.end(),
    )
  }
  return { name, needs, run }
}
