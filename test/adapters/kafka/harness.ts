import { fileURLToPath } from 'node:url'

import { kafka, type KafkaOptions } from '../../../adapters/kafka/index.ts'
import { openBehind, type Behind } from '../../brokers/kafka-behind.ts'
import { until } from '../../brokers/handshake.ts'
import { expelMembers, membersOf } from '../../brokers/kafka-groups.ts'
import type { KafkaNode } from '../../brokers/kafka-node.ts'
import { deleteTopic } from '../../brokers/kafka-topics.ts'
import type { Action, Seen } from '../../brokers/proxy/kafka-proxy.ts'
import type { Fault } from '../../brokers/proxy/rules.ts'
import { driverUnderTest } from './client-under-test.ts'
import type { BrokerFaults, BrokerHarness } from '../../conformance/index.ts'

/** What may differ between two runs of the suite. */
export type Variant = Partial<Omit<KafkaOptions, 'brokers' | 'url' | 'client'>>

/** How long a group waits for a member that died: short, and long enough for a busy machine. */
const SESSION_MS = 6_000
const JOIN_LIMIT_MS = 30_000
/** What a broker answers for a partition whose leader is somebody else. */
const NOT_LEADER = 6

/** One broker or a cluster, and a proxy before each that makes faults. */
export class Rig {
  readonly nodes: readonly KafkaNode[]
  readonly #behind: Behind

  private constructor(nodes: readonly KafkaNode[], behind: Behind) {
    this.nodes = nodes
    this.#behind = behind
  }

  static async open(...nodes: readonly KafkaNode[]): Promise<Rig> {
    return new Rig(nodes, await openBehind(nodes))
  }

  /** `host:port` of each, through its proxy. */
  get brokers(): readonly string[] {
    return this.#behind.brokers
  }

  get proxies(): Behind['proxies'] {
    return this.#behind.proxies
  }

  /** `host:port` of each, past its proxy. */
  get direct(): readonly string[] {
    return this.nodes.map(({ broker }) => broker)
  }

  /** A harness of the conformance suite; every connection goes through a proxy. */
  harness(name: string, variant: Variant = {}): BrokerHarness {
    const options = { sessionTimeoutMs: SESSION_MS, driver: driverUnderTest, ...variant }
    return {
      name,
      connect: () => kafka({ ...options, brokers: this.brokers }),
      patience: this.nodes.length === 1 ? 4 : 8,
      shortRetryMs: 500,
      takeoverMs: SESSION_MS,
      faults: this.#faults(),
      secondProcess: {
        module: fileURLToPath(new URL('../../../dist/adapters/kafka/index.js', import.meta.url)),
        name: 'kafka',
        options: { ...options, brokers: this.direct },
      },
    }
  }

  close(): Promise<void> {
    return this.#behind.close()
  }

  #faults(): BrokerFaults {
    return {
      restart: () => this.#restart(),
      // A broker answers a request as a whole: what stands still by itself is a partition without a leader.
      stall: (topic) => {
        const isIt = (one: string): boolean => one === topic
        const action = { do: 'answer-error', code: NOT_LEADER, topics: isIt } as const
        const rules = this.#rules(writesTo(topic), action, Infinity)
        return () => heal(rules)
      },
      // What is not connected writes nothing: connections of one topic are those of all.
      neverWrite: async () => {
        const refusals = this.proxies.map((proxy) => proxy.refuse())
        for (const proxy of this.proxies) proxy.reset()
        // Who writes hears of it within a few rounds: it is this process, at the other end.
        for (let round = 0; round < 10; round++) await new Promise(setImmediate)
        return () => heal(refusals)
      },
      // Each broker may lose that many.
      loseConfirm: (topic, count) => {
        this.#rules(writesTo(topic), { do: 'lose-answer' }, count)
      },
      loseSource: (topic, group) => this.#loseSources(`${topic}.${group}`),
      deleteDestination: (topic) => deleteTopic(this.direct, topic),
    }
  }

  #rules(match: (seen: Seen) => boolean, action: Action, count: number): readonly Fault[] {
    return this.proxies.map((proxy) => proxy.rule(match, action, count))
  }

  /** Until all of them have joined anew, which they do when they next say that they are alive. */
  async #loseSources(groupId: string): Promise<void> {
    const expelled = await expelMembers(this.nodes, groupId)
    await until(
      `the members of ${groupId} to join again`,
      async () => {
        const members = await membersOf(this.nodes, groupId)
        return members.length >= expelled.length && !members.some((id) => expelled.includes(id))
      },
      JOIN_LIMIT_MS,
    )
  }

  /** All of it, since a cluster of which one broker restarts never went away. */
  async #restart(): Promise<void> {
    if (this.nodes.length === 1) return this.nodes[0]!.restart()
    // In order they would wait for each other: the last one has nobody to give its partitions to.
    await Promise.all(this.nodes.map((node) => node.kill()))
    await Promise.all(this.nodes.map((node) => node.start()))
  }
}

function heal(faults: readonly Fault[]): void {
  for (const fault of faults) fault.heal()
}

function writesTo(topic: string): (seen: Seen) => boolean {
  return ({ records }) => records.has(topic)
}
