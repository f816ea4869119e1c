import { AsyncLocalStorage } from 'node:async_hooks'
import { beforeEach, describe, expect, it } from 'vitest'

import {
  sqlite,
  sqliteInbox,
  type SqliteDatabase,
  type SqliteTransaction,
} from '../../../adapters/sqlite/index.ts'
import type { Broker } from '../../../src/contract/broker.ts'
import { systemClock } from '../../../src/contract/clock.ts'
import type { PublishRefusedError } from '../../../src/contract/errors.ts'
import { topic } from '../../../src/contract/topic.ts'
import { ReliableConsumer } from '../../../src/consume/consumer.ts'
import { ReliablePublisher } from '../../../src/publish/publisher.ts'
import { OpenedFiles } from './opened-files.ts'
import { envelopes, rejection, rowsFor, send, until, words } from './stage.ts'

const files = new OpenedFiles()
const Orders = topic<{ readonly n: number }>('orders')
const Receipts = topic<{ readonly n: number }>('receipts')

describe('inside a transaction on its own file', () => {
  let file: string
  let database: SqliteDatabase

  beforeEach(async () => {
    file = files.next()
    database = await files.database(file)
  })

  function publisher(broker: Broker): ReliablePublisher {
    const topics = { orders: { groups: ['billing'] }, receipts: { groups: ['mail'] } }
    const made = new ReliablePublisher({ broker, topics, logging: 'silent' })
    files.afterwards(() => made.close())
    return made
  }

  /** How long it took; what waits for itself takes at least busyMs. */
  async function timed<T>(work: Promise<T>): Promise<readonly [T, number]> {
    const startedMs = systemClock.now()
    return [await work, systemClock.now() - startedMs]
  }

  it('refuses another transaction at once, by name', async () => {
    const nested = database.transaction(() => database.transaction(() => 1))
    const [error, ms] = await timed(rejection(nested))
    expect(error.code).toBe('own-transaction')
    expect(error.message).toMatch(
      /transaction\(\) from inside a transaction.*use the transaction you have/,
    )
    expect(ms).toBeLessThan(2_000)
    expect(await database.transaction(() => 'after')).toBe('after')
  })

  it(
    'rolls back work that never settles, by name, and lets the others go on',
    { timeout: 5_000 },
    async () => {
      await database.transaction((tx) => tx.run('CREATE TABLE notes (n)'))
      let open!: SqliteTransaction
      const hanging = database.transaction(
        (tx) => {
          open = tx
          tx.run('INSERT INTO notes VALUES (1)')
          return new Promise(() => undefined)
        },
        { timeoutMs: 100 },
      )
      const next = database.transaction((tx) => tx.all('SELECT n FROM notes'))
      const error = await rejection(hanging)
      expect(error.code).toBe('timeout')
      expect(error.message).toMatch(
        /^the work of transaction\(\) on .*, which is rolled back, did not end within 100 ms$/,
      )
      expect(await next).toEqual([])
      expect(() => open.run('INSERT INTO notes VALUES (2)')).toThrow(/the transaction is over/)
    },
  )

  it('closes although work never settles', async () => {
    let begun = false
    const never = (): Promise<never> => {
      begun = true
      return new Promise(() => undefined)
    }
    const hanging = rejection(database.transaction(never, { timeoutMs: 100 }))
    await until(() => begun, 'the beginning of the transaction')
    const [, ms] = await timed(database.close())
    expect((await hanging).code).toBe('timeout')
    expect(ms).toBeLessThan(5_000)
  })

  it('says which time is none', async () => {
    const refused = database.transaction(() => 1, { timeoutMs: 0 })
    expect((await rejection(refused)).message).toMatch(/transaction\.timeoutMs: got 0; allowed/)
  })

  it('refuses an inbox and appendAlone at once, by name', async () => {
    const inbox = await files.inbox(file)
    const outbox = await files.outbox(file)
    const message = { consumer: 'c', id: 'm' }
    const both = await database.transaction(async () => [
      await rejection(inbox.run([message], 'each', async () => ['done'])),
      await rejection(outbox.appendAlone(rowsFor(['a']))),
    ])
    expect(both.map(({ code }) => code)).toEqual(['own-transaction', 'own-transaction'])
    expect(await inbox.run([message], 'each', async () => ['done'])).toEqual(['committed'])
  })

  it('refuses a publish of a handler at once, by name, and the handler goes on', async () => {
    const broker = sqlite({ file })
    const inbox = sqliteInbox({ file })
    const orders = publisher(broker)
    await orders.open()
    files.afterwards(() => inbox.close())
    const seen: PublishRefusedError[] = []
    const consumer = new ReliableConsumer({
      broker,
      topic: Orders,
      group: 'billing',
      inbox,
      logging: 'silent',
      handler: async () => {
        seen.push((await rejection(orders.publish(Receipts, { n: 1 }))) as PublishRefusedError)
      },
    })
    await consumer.start()
    files.afterwards(() => consumer.drain())
    const [, ms] = await timed(
      orders.publish(Orders, { n: 1 }).then(() => until(() => seen.length > 0, 'the handler')),
    )
    expect(ms).toBeLessThan(2_000)
    expect(seen[0]).toMatchObject({ code: 'own-transaction', retryable: false, topic: 'receipts' })
    expect(seen[0]?.message).toMatch(/context\.publish.*publishIn/)
    await until(
      async () => (await broker.inspect?.depth({ kind: 'topic', topic: 'orders' })) === 0,
      'the order to be handled',
    )
  })

  it('says what to do when context.publish has no outbox to go to', async () => {
    const broker = sqlite({ file })
    const inbox = sqliteInbox({ file })
    const orders = publisher(broker)
    await orders.open()
    files.afterwards(() => inbox.close())
    const errors: Error[] = []
    const consumer = new ReliableConsumer({
      broker,
      topic: Orders,
      group: 'billing',
      inbox,
      retry: { attempts: 1 },
      topics: { receipts: { groups: ['mail'] } },
      logging: 'silent',
      on: (event) => {
        if (event.type === 'message.dead' && event.error !== null) errors.push(event.error)
      },
      handler: (_order, { publish }) => void publish(Receipts, { n: 1 }),
    })
    await consumer.start()
    files.afterwards(() => consumer.drain())
    await orders.publish(Orders, { n: 1 })
    await until(() => errors.length > 0, 'a dead letter')
    expect(errors[0]).toMatchObject({ code: 'own-transaction' })
    expect(errors[0]?.message).toMatch(
      /context\.publish\(\) without an outbox.*sqliteOutbox on this file/,
    )
  })

  it('stores what others publish meanwhile, whoever came first in the batch', async () => {
    const orders = publisher(sqlite({ file }))
    await orders.open()
    for (const first of ['inside', 'outside'] as const) {
      let open!: () => void
      const begun = new Promise<void>((resolve) => (open = resolve))
      let goOn!: () => void
      const published = new Promise<void>((resolve) => (goOn = resolve))
      const outside = begun.then(() => {
        const publishing = orders.publish(Orders, { n: 1 })
        goOn()
        return publishing
      })
      const inside = database.transaction(async () => {
        if (first === 'inside') {
          const refused = rejection(orders.publish(Orders, { n: 2 }))
          open()
          return refused
        }
        open()
        await published
        return rejection(orders.publish(Orders, { n: 2 }))
      })
      const [[error, stored], ms] = await timed(Promise.all([inside, outside]))
      expect(error.code).toBe('own-transaction')
      expect(stored.via).toBe('broker')
      expect(ms).toBeLessThan(2_000)
    }
  })

  it('refuses a bare send at once, worth trying again for those who ride along', async () => {
    const broker = await files.broker(file)
    const sender = broker.sender('publish')
    const [outcome] = await database.transaction(() => send(sender, envelopes(['a'])))
    expect(outcome).toMatchObject({
      status: 'refused',
      error: { code: 'own-transaction', retryable: true },
    })
  })

  it('lets a publish to another file through', async () => {
    const orders = publisher(sqlite({ file: files.next() }))
    await orders.open()
    const published = await database.transaction(() => orders.publish(Orders, { n: 1 }))
    expect(published.via).toBe('broker')
  })

  it('lets code that outlives the transaction publish', async () => {
    const orders = publisher(sqlite({ file }))
    await orders.open()
    let later!: () => void
    const ended = new Promise<void>((resolve) => (later = resolve))
    let publishing: Promise<unknown> | undefined
    await database.transaction(() => {
      publishing = ended.then(() => orders.publish(Orders, { n: 1 }))
    })
    later()
    expect(await publishing).toMatchObject({ via: 'broker' })
  })

  it('runs the work in the async context of whoever asked for the transaction', async () => {
    const request = new AsyncLocalStorage<string>()
    const seen = await Promise.all(
      ['a', 'b', 'c'].map((name) =>
        request.run(name, () =>
          database.transaction(async () => {
            await Promise.resolve()
            return request.getStore()
          }),
        ),
      ),
    )
    expect(seen).toEqual(['a', 'b', 'c'])
  })

  it('lets relays and settles through, whoever runs them', async () => {
    const broker = await files.broker(file)
    const sending = await database.transaction(() => [
      send(broker.sender('relay'), envelopes(['a'])),
    ])
    expect(words(await (sending[0] as Promise<never>))).toEqual(['confirmed'])
  })
})
