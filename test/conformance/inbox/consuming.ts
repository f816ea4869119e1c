import assert from 'node:assert/strict'

import { memory, type MemoryBroker } from '../../../adapters/memory/index.ts'
import { sleep } from '../../../src/contract/clock.ts'
import { topic } from '../../../src/contract/topic.ts'
import { ReliableConsumer } from '../../../src/consume/consumer.ts'
import type { BatchOptions, SingleOptions } from '../../../src/consume/options.ts'
import { constant } from '../../../src/policy/backoff.ts'
import { ReliablePublisher } from '../../../src/publish/publisher.ts'
import type { Case } from '../case.ts'
import { inboxCase, type Desk } from './desk.ts'
import type { InboxHarness } from './harness.ts'

interface Item {
  readonly key: string
  readonly n: number
}

const Items = topic<Item>('conformance', { key: ({ key }) => key })
type Items = typeof Items

type Handled = Omit<SingleOptions<Items, unknown>, 'broker' | 'topic' | 'inbox' | 'group'> & {
  readonly group?: string
}
type Batched = Omit<BatchOptions<Items, unknown>, 'broker' | 'topic' | 'inbox' | 'group'>

/** Publisher, broker and consumers around the inbox of a case. */
class Shop {
  readonly broker: MemoryBroker = memory()
  readonly #desk: Desk<unknown>
  readonly #publisher: ReliablePublisher
  readonly #consumers: { close(options: { timeoutMs: number }): Promise<void> }[] = []

  constructor(desk: Desk<unknown>) {
    this.#desk = desk
    this.#publisher = new ReliablePublisher({
      broker: this.broker,
      topics: { conformance: { groups: ['a'] } },
      logging: 'silent',
      clock: desk.clock,
    })
  }

  /** Publishes `each` items of every key, each of them `copies` times under one id. */
  async publish(keys: readonly string[], each: number, copies = 1): Promise<void> {
    const items = Array.from({ length: each }, (_, n) => keys.map((key) => ({ key, n }))).flat()
    const all = items.flatMap((item) => Array.from({ length: copies }, () => item))
    const idOf = ({ key, n }: Item): { id: string } => ({ id: `${key}:${n}` })
    const outcomes = await this.#publisher.publishBatch(Items, all, idOf)
    assert.ok(outcomes.every(({ status }) => status === 'confirmed'))
  }

  async consume(given: Handled): Promise<void> {
    await this.#start(new ReliableConsumer<Items, unknown>({ ...this.#common(), ...given }))
  }

  async consumeBatches(given: Batched): Promise<void> {
    await this.#start(new ReliableConsumer<Items, unknown>({ ...this.#common(), ...given }))
  }

  async #start(consumer: ReliableConsumer<Items, unknown>): Promise<void> {
    this.#consumers.push(consumer)
    await this.#desk.within('start()', consumer.start())
  }

  #common() {
    return {
      broker: memory({ sameAs: this.broker }),
      topic: Items,
      group: 'a',
      inbox: this.#desk.database.store(),
      retry: { attempts: 50, backoff: constant(5) },
      logging: 'silent',
      clock: this.#desk.clock,
    } as const
  }

  /** Waits until there are that many effects, and that they stay so many. */
  async effects(count: number): Promise<readonly string[]> {
    let seen: readonly string[] = []
    await this.#desk.eventually(
      () => `${seen.length} of ${count} effects`,
      async () => (seen = await this.#desk.effects()).length >= count,
    )
    await this.broker.settled({ deadlineMs: this.#desk.limitMs })
    return this.#desk.effects()
  }

  async close(): Promise<void> {
    const timeoutMs = this.#desk.limitMs / 2
    const open = [...this.#consumers, this.#publisher].map((one) => one.close({ timeoutMs }))
    await Promise.allSettled(open)
  }
}

/** A case of the inbox at work. */
function shopCase(
  name: string,
  act: (shop: Shop, desk: Desk<unknown>) => Promise<void>,
): Case<InboxHarness> {
  return inboxCase(name, [], async (desk) => {
    const shop = new Shop(desk)
    try {
      await act(shop, desk)
    } finally {
      await shop.close()
    }
  })
}

/** The effect of an item is its own name, so that a second one shows. */
function itself(
  desk: Desk<unknown>,
): (item: Item, context: { readonly tx: unknown }) => Promise<void> {
  return ({ key, n }, { tx }) => desk.database.effect(tx, `${key}:${n}`)
}

function named(keys: readonly string[], each: number): readonly string[] {
  const all = keys.flatMap((key) => Array.from({ length: each }, (_, n) => `${key}:${n}`))
  return all.toSorted((one, other) => (one < other ? -1 : 1))
}

/** The inbox under `ReliableConsumer`: one effect per message, whatever is delivered how often. */
export const consumingCases: readonly Case<InboxHarness>[] = [
  shopCase('consumes: one effect of each message, delivered three times', async (shop, desk) => {
    await shop.consume({ handler: itself(desk) })
    await shop.publish(['x', 'y', 'z'], 10, 3)
    assert.deepEqual(await shop.effects(30), named(['x', 'y', 'z'], 10))
  }),

  shopCase(
    'consumes: no effect of a handler that throws, one when it works',
    async (shop, desk) => {
      let failures = 0
      await shop.consume({
        handler: async (item, context) => {
          await itself(desk)(item, context)
          if (item.n % 3 === 1 && context.attempt < 3) {
            failures++
            throw new Error('not yet')
          }
        },
      })
      await shop.publish(['x', 'y'], 9)
      assert.deepEqual(await shop.effects(18), named(['x', 'y'], 9))
      assert.equal(failures, 12)
    },
  ),

  shopCase('consumes: one effect of each message while sources come and go', async (shop, desk) => {
    const handler = itself(desk)
    await shop.consume({ handler })
    await shop.consume({ handler })
    const publishing = shop.publish(['v', 'w', 'x', 'y', 'z'], 20)
    for (let n = 0; n < 8; n++) {
      shop.broker.faults.loseSources({ topic: 'conformance', group: 'a' })
      await sleep(desk.clock, 4)
    }
    await publishing
    assert.deepEqual(await shop.effects(100), named(['v', 'w', 'x', 'y', 'z'], 20))
  }),

  shopCase('consumes: one effect for each of two groups', async (shop, desk) => {
    await shop.consume({ handler: itself(desk) })
    await shop.consume({ group: 'b', handler: itself(desk) })
    await shop.publish(['x'], 5, 2)
    const twice = named(['x'], 5).flatMap((name) => [name, name])
    assert.deepEqual(await shop.effects(10), twice)
  }),

  shopCase(
    'consumes batches: a failed message alone again, the others once',
    async (shop, desk) => {
      let failed = 0
      await shop.consumeBatches({
        batch: { maxMessages: 10, maxWaitMs: 5 },
        handler: async (messages, { tx }) => {
          const last = messages.at(-1)!
          const fails = messages.length > 1 && failed < 3
          for (const { payload } of messages.slice(0, fails ? -1 : undefined)) {
            await desk.database.effect(tx, `${payload.key}:${payload.n}`)
          }
          if (!fails) return undefined
          failed++
          return { failed: [{ message: last, error: new Error('this one not yet') }] }
        },
      })
      await shop.publish(['x', 'y', 'z'], 20)
      assert.deepEqual(await shop.effects(60), named(['x', 'y', 'z'], 20))
      assert.equal(failed, 3)
    },
  ),
]
