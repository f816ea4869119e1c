import assert from 'node:assert/strict'

import { memory, type MemoryBroker } from '../../../adapters/memory/index.ts'
import type { OutboxStore } from '../../../src/contract/store.ts'
import { topic } from '../../../src/contract/topic.ts'
import { constant } from '../../../src/policy/backoff.ts'
import { ReliablePublisher } from '../../../src/publish/publisher.ts'
import { OutboxRelay } from '../../../src/publish/relay.ts'
import type { RelayOptions } from '../../../src/publish/relay-options.ts'
import type { PublishOptions } from '../../../src/send/seal.ts'
import type { Case } from '../case.ts'
import { ALL, outboxCase, type Desk } from './desk.ts'
import type { OutboxHarness } from './harness.ts'

interface Item {
  readonly key: string
  readonly n: number
}

const Items = topic<Item>('conformance', { key: ({ key }) => key })

/** Publisher, relays and a broker around the outbox of a case. */
class Office {
  readonly broker: MemoryBroker = memory()
  readonly publisher: ReliablePublisher
  /** Looks at the outbox from outside. */
  readonly store: OutboxStore<unknown>
  readonly #desk: Desk<unknown>
  readonly #parts: { close(options: { timeoutMs: number }): Promise<void> }[] = []

  private constructor(desk: Desk<unknown>, store: OutboxStore<unknown>) {
    this.#desk = desk
    this.store = store
    this.publisher = new ReliablePublisher({
      broker: memory({ sameAs: this.broker }),
      outbox: desk.database.store(),
      logging: 'silent',
      clock: desk.clock,
    })
    this.#parts.push(this.publisher)
  }

  static async open(desk: Desk<unknown>): Promise<Office> {
    const office = new Office(desk, await desk.store())
    await desk.within('open()', office.publisher.open())
    return office
  }

  /** Puts the items into the outbox in one transaction. */
  async insert(
    items: readonly Item[],
    options: Pick<PublishOptions, 'deliverAt'> = {},
  ): Promise<void> {
    const { publisher } = this
    const work = (tx: unknown): Promise<unknown> =>
      publisher.publishBatchIn(tx, Items, items, options)
    await this.#desk.within('publishBatchIn()', this.#desk.database.transaction(work))
  }

  async relay(given: Partial<RelayOptions<unknown>> = {}): Promise<OutboxRelay> {
    const relay = new OutboxRelay({
      broker: memory({ sameAs: this.broker }),
      outbox: this.#desk.database.store(),
      topics: { conformance: { groups: ['a'] } },
      pollMs: 20,
      leaseMs: 1_000,
      backoff: constant(5),
      logging: 'silent',
      clock: this.#desk.clock,
      ...given,
    })
    this.#parts.push(relay)
    await this.#desk.within('start()', relay.start())
    return relay
  }

  /** What reached the broker, as `key:n`, in the order it did; a second copy of one id is left out. */
  arrived(): readonly string[] {
    const seen = new Set<string | null>()
    return this.broker.published(Items).flatMap(({ id, payload }) => {
      if (seen.has(id)) return []
      seen.add(id)
      return [`${payload.key}:${payload.n}`]
    })
  }

  /** Waits until so many different messages have reached the broker and the outbox is empty. */
  async done(count: number): Promise<void> {
    let pending = -1
    await this.#desk.eventually(
      () => `${this.arrived().length} of ${count} at the broker, ${pending} in the outbox`,
      async () => {
        pending = (await this.store.stats()).pending
        return this.arrived().length >= count && pending === 0
      },
    )
    assert.equal(this.arrived().length, count)
  }

  /** Fails unless the first copies of each key came in order, every one of them. */
  assertOrder(keys: readonly string[], each: number): void {
    for (const key of keys) {
      const mine = this.arrived().filter((name) => name.startsWith(`${key}:`))
      assert.deepEqual(
        mine,
        Array.from({ length: each }, (_, n) => `${key}:${n}`),
      )
    }
  }

  async close(): Promise<void> {
    const timeoutMs = this.#desk.limitMs / 2
    await Promise.allSettled(this.#parts.map((part) => part.close({ timeoutMs })))
  }
}

/** A case of the outbox at work. */
function officeCase(
  name: string,
  act: (office: Office, desk: Desk<unknown>) => Promise<void>,
): Case<OutboxHarness> {
  return outboxCase(name, [], async (desk) => {
    const office = await Office.open(desk)
    try {
      await act(office, desk)
    } finally {
      await office.close()
    }
  })
}

function deal(keys: readonly string[], each: number, first = 0): readonly Item[] {
  return Array.from({ length: each }, (_, n) => keys.map((key) => ({ key, n: first + n }))).flat()
}

const keys = ['t', 'u', 'v', 'w', 'x', 'y', 'z'] as const

/** The outbox under `OutboxRelay`: all that commits reaches the broker, in key order. */
export const relayingCases: readonly Case<OutboxHarness>[] = [
  officeCase('relays what commits, nothing that rolls back', async (office, desk) => {
    await office.relay()
    await office.insert(deal(['kept'], 3))
    const rolledBack = desk.database.transaction(async (tx) => {
      await office.publisher.publishIn(tx, Items, { key: 'dropped', n: 0 })
      throw new Error('the business change failed')
    })
    await assert.rejects(rolledBack, /the business change failed/)
    await office.insert(deal(['kept'], 3, 3))
    await office.done(6)
    office.assertOrder(['kept'], 6)
  }),

  officeCase('relays what was there before it started', async (office) => {
    for (let n = 0; n < 10; n++) await office.insert(deal(keys, 3, 3 * n))
    await office.relay()
    await office.done(210)
    office.assertOrder(keys, 30)
  }),

  officeCase(
    'relays each key in order while the broker refuses and loses words',
    async (office) => {
      let count = 0
      const { faults } = office.broker
      const refusing = faults.refuseSends({ match: () => count++ % 9 === 4, times: 12 })
      const losing = faults.loseConfirms({ match: () => count % 11 === 7, times: 8 })
      await office.relay({ batchSize: 20 })
      await office.insert(deal(keys, 20))
      await office.done(140)
      office.assertOrder(keys, 20)
      assert.ok(refusing.hits > 0 && losing.hits > 0, 'the faults did not happen')
    },
  ),

  officeCase('relays each key in order with relays that come and go', async (office) => {
    const first = await office.relay({ batchSize: 10 })
    const adding = (async () => {
      for (let n = 0; n < 10; n++) await office.insert(deal(keys, 4, 4 * n))
    })()
    await office.relay({ batchSize: 10 })
    await first.close({ timeoutMs: 1_000 })
    await office.relay({ batchSize: 10 })
    await adding
    await office.done(280)
    office.assertOrder(keys, 40)
  }),

  officeCase('relays what a relay that died had taken', async (office) => {
    await office.insert(deal(keys, 5))
    const { leases } = await office.store.lease('dead', ALL, 300)
    await office.store.read(leases, 10, { ids: [], keyHashes: [], topics: [] })
    await office.relay()
    await office.done(35)
    office.assertOrder(keys, 5)
  }),

  officeCase(
    'relays past a message the broker never takes, which is parked',
    async (office, desk) => {
      const poison = office.broker.faults.refuseSends({
        match: ({ body }) => Buffer.from(body!).toString().includes('"n":3'),
        times: Infinity,
        retryable: false,
      })
      await office.relay({ attempts: 2 })
      await office.insert(deal(['k'], 7))
      await office.done(6)
      assert.deepEqual(office.arrived(), ['k:0', 'k:1', 'k:2', 'k:4', 'k:5', 'k:6'])
      await desk.eventually(
        () => 'nothing is parked',
        async () => (await office.store.stats()).dead === 1,
      )
      assert.equal(poison.hits, 2)
    },
  ),

  officeCase(
    'relays everything once the broker is back, counting nothing meanwhile',
    async (office, desk) => {
      const connection = memory({ sameAs: office.broker })
      await office.relay({ broker: connection, attempts: 1 })
      await office.insert(deal(['before'], 1))
      await office.done(1)
      connection.faults.down()
      await office.insert(deal(keys, 10))
      await desk.quiet('published while the broker was away', () => office.arrived().length)
      const { pending, dead } = await office.store.stats()
      assert.deepEqual({ pending, dead }, { pending: 70, dead: 0 })
      connection.faults.up()
      await office.done(71)
      office.assertOrder(keys, 10)
    },
  ),

  officeCase('relays a scheduled message when it is due', async (office, desk) => {
    await office.relay()
    const deliverAt = desk.clock.wallMs() + 300
    await office.insert([{ key: 'later', n: 0 }], { deliverAt })
    await office.insert([{ key: 'now', n: 0 }])
    let arrivedMs = 0
    await desk.eventually(
      () => `arrived: ${office.arrived().join(', ')}`,
      () => {
        arrivedMs = desk.clock.wallMs()
        return office.arrived().length === 2
      },
    )
    // In any order: on a slow machine it may have been due before the other one was written.
    assert.deepEqual(office.arrived().toSorted(), ['later:0', 'now:0'])
    assert.ok(arrivedMs >= deliverAt, `it came ${deliverAt - arrivedMs} ms early`)
  }),
]
