import { setTimeout as pause } from 'node:timers/promises'

import type { Admin } from 'kafkajs'

import { electPreferred } from './kafka-ask.ts'
import type { KafkaCluster } from './kafka-cluster.ts'
import { leadersOf, partitionsOf, plainKafka } from './kafka-topics.ts'

/** Moves the leaders of a topic from broker to broker, all of them, again and again. */
export class LeaderMover {
  readonly #cluster: KafkaCluster
  readonly #topic: string
  readonly #everyMs: number
  readonly #admin: Admin
  readonly #errors: unknown[] = []
  #replicas: ReadonlyMap<number, readonly number[]> = new Map()
  #moves = 0
  #isMoving = true
  #loop: Promise<void> = Promise.resolve()

  private constructor(cluster: KafkaCluster, topic: string, everyMs: number) {
    this.#cluster = cluster
    this.#topic = topic
    this.#everyMs = everyMs
    this.#admin = plainKafka(cluster.brokers, 'mover').admin()
  }

  /** Begins at once; `stop` has to be called. */
  static async start(cluster: KafkaCluster, topic: string, everyMs = 200): Promise<LeaderMover> {
    const mover = new LeaderMover(cluster, topic, everyMs)
    await mover.#admin.connect()
    const facts = await partitionsOf(cluster.brokers, topic)
    mover.#replicas = new Map(facts.map(({ partition, replicas }) => [partition, replicas]))
    mover.#loop = mover.#run()
    return mover
  }

  /** How often a partition came to another leader. */
  get moves(): number {
    return this.#moves
  }

  /** Rounds that did not work, which is what a cluster under load may answer. */
  get errors(): readonly unknown[] {
    return this.#errors
  }

  /** Resolves when every partition has a leader that stays. */
  async stop(): Promise<void> {
    this.#isMoving = false
    await this.#loop
    await this.#admin.disconnect()
    await this.#cluster.untilInSync(this.#topic)
  }

  async #run(): Promise<void> {
    while (this.#isMoving) {
      await this.#round().catch((error: unknown) => this.#errors.push(error))
      await pause(this.#everyMs)
    }
  }

  async #round(): Promise<void> {
    const { brokers } = this.#cluster
    const before = await leadersOf(brokers, this.#topic)
    this.#replicas = new Map([...this.#replicas].map(([n, replicas]) => [n, rotated(replicas)]))
    await this.#admin.alterPartitionReassignments({
      topics: [
        {
          topic: this.#topic,
          partitionAssignment: [...this.#replicas].map(([partition, replicas]) => ({
            partition,
            replicas: [...replicas],
          })),
        },
      ],
    })
    const port = this.#cluster.nodes[0]!.address.ports.clients
    await electPreferred(port, this.#topic, [...this.#replicas.keys()])
    for (const [partition, leader] of await leadersOf(brokers, this.#topic)) {
      if (leader !== before.get(partition)) this.#moves++
    }
  }
}

function rotated(replicas: readonly number[]): readonly number[] {
  return [...replicas.slice(1), ...replicas.slice(0, 1)]
}
