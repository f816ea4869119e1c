import { afterEach, describe, expect, it, vi } from 'vitest'

import { sqlite, sqliteInbox, type SqliteTransaction } from '../../../adapters/sqlite/index.ts'
import { ReliableConsumer } from '../../../src/consume/consumer.ts'
import type { HoldfastEvent } from '../../../src/contract/events.ts'
import { topic } from '../../../src/contract/topic.ts'
import { ReliablePublisher } from '../../../src/publish/publisher.ts'
import { LostAnswers } from './lost-answers.ts'
import { anyDriver, OpenedFiles } from './opened-files.ts'
import { until } from './stage.ts'

const files = new OpenedFiles()
afterEach(() => void vi.restoreAllMocks())

const Orders = topic<{ readonly n: number }>('orders')
const topics = { orders: { groups: ['billing'] } }

describe('a COMMIT that took place and whose answer is lost', () => {
  it('makes the publisher store the message again under its id, which has one effect', async () => {
    const file = files.next()
    const lost = new LostAnswers(file)
    const broker = sqlite({ file })
    const publisher = new ReliablePublisher({ broker, topics, logging: 'silent' })
    files.afterwards(() => publisher.close({ timeoutMs: 1_000 }))
    await publisher.open()
    await publisher.publish(Orders, { n: 0 })
    const raw = anyDriver.connect(file)
    lost.want(raw, 'orders', 1)
    raw.close()
    const published = await publisher.publish(Orders, { n: 1 })
    expect(published).toMatchObject({ via: 'broker', attempts: 2, possiblyDuplicated: true })
    const to = { kind: 'group', topic: 'orders', group: 'billing', delayMs: 0 } as const
    const [, ...stored] = (await broker.inspect?.browse(to, 10)) ?? []
    expect(stored.map(({ id }) => id)).toEqual([published.id, published.id])
    expect(await effectsOf(file)).toEqual([0, 1])
  })
})

/** What a consumer with an inbox makes of everything in the file. */
async function effectsOf(file: string): Promise<unknown> {
  const database = await files.database(file)
  await database.transaction((tx) => void tx.run('CREATE TABLE effects (n)'))
  const types: string[] = []
  const consumer = new ReliableConsumer({
    broker: sqlite({ file }),
    topic: Orders,
    group: 'billing',
    topics,
    inbox: sqliteInbox({ file }),
    handler: ({ n }, { tx }: { readonly tx: SqliteTransaction }) => {
      tx.run('INSERT INTO effects (n) VALUES (?)', n)
    },
    logging: 'silent',
    on: ({ type }: HoldfastEvent) => void types.push(type),
  })
  files.afterwards(() => consumer.close({ timeoutMs: 1_000 }))
  await consumer.start()
  await until(() => types.includes('message.duplicate'), 'the second copy to be a duplicate')
  return database.transaction((tx) => tx.all('SELECT n FROM effects ORDER BY n').map(({ n }) => n))
}
