import { describe, expect, it } from 'vitest'

import { ClusterGroupLink } from '../../../adapters/kafka/cluster-group-link.ts'
import type { KafkajsClient } from '../../../adapters/kafka/options.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'

const member = { id: 'm1', generation: 1 }

/** A cluster as kafkajs makes it, of nodes that answer heartbeats as a test says. */
class Stage {
  readonly clock: VirtualClock = new VirtualClock()
  readonly beats: number[] = []
  readonly link: ClusterGroupLink
  coordinator = 1
  lookups = 0
  onBeat: (node: number) => Promise<void> = () => Promise.resolve()

  constructor() {
    const nodes = [1, 2].map((nodeId) => this.#node(nodeId))
    const cluster = {
      targetTopics: new Set<string>(),
      brokerPool: {
        brokers: {},
        createBroker: () => undefined,
        findConnectedBroker: async () => nodes[0],
      },
      findBroker: async ({ nodeId }: { nodeId: number }) => nodes[nodeId - 1],
    }
    const client = { [Symbol('private:Kafka:createCluster')]: () => cluster }
    this.link = new ClusterGroupLink({
      client: client as unknown as KafkajsClient,
      clock: this.clock,
      groupId: 'g',
      topics: ['orders'],
      sessionTimeoutMs: 6_000,
      rebalanceTimeoutMs: 6_000,
    })
  }

  /** What came of one: `null` when it was answered. */
  async beat(): Promise<unknown> {
    const beating = this.link.heartbeat(member, this.clock.now() + 1_000)
    return this.clock.run(beating.then(() => null).catch((error: unknown) => error))
  }

  #node(nodeId: number): object {
    return {
      nodeId,
      connectionPool: { pool: [] },
      findGroupCoordinator: async () => {
        this.lookups++
        return { coordinator: { nodeId: this.coordinator } }
      },
      heartbeat: () => {
        this.beats.push(nodeId)
        return this.onBeat(nodeId)
      },
    }
  }
}

describe('the coordinator of a group', () => {
  it('is looked for once', async () => {
    const stage = new Stage()
    for (let n = 0; n < 3; n++) expect(await stage.beat()).toBeNull()
    expect(stage.lookups).toBe(1)
  })

  it('is looked for again after a connection that ended without an answer', async () => {
    const stage = new Stage()
    await stage.beat()
    // Something in front of a dead node still takes connections, and ends them.
    const ended = Object.assign(new Error('Closed connection'), {
      name: 'KafkaJSConnectionClosedError',
    })
    stage.onBeat = (node) => (node === 1 ? Promise.reject(ended) : Promise.resolve())
    stage.coordinator = 2
    expect(await stage.beat()).toBe(ended)
    expect(await stage.beat()).toBeNull()
    expect(stage.beats).toEqual([1, 1, 2])
  })

  it('is looked for again when it does not answer in time', async () => {
    const stage = new Stage()
    stage.onBeat = (node) => (node === 1 ? new Promise(() => undefined) : Promise.resolve())
    expect(await stage.beat()).toMatchObject({ code: 'timeout' })
    stage.coordinator = 2
    expect(await stage.beat()).toBeNull()
    expect(stage.beats).toEqual([1, 2])
  })

  it('is kept when it has something to say', async () => {
    const stage = new Stage()
    const rebalancing = Object.assign(new Error('REBALANCE_IN_PROGRESS'), { code: 27 })
    stage.onBeat = () => Promise.reject(rebalancing)
    for (let n = 0; n < 3; n++) expect(await stage.beat()).toBe(rebalancing)
    expect(stage.lookups).toBe(1)
  })
})
