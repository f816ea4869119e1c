import { closeSync, openSync, writeSync } from 'node:fs'
import { describe, expect, it } from 'vitest'

import { sqlite, sqliteOutbox } from '../../../adapters/sqlite/index.ts'
import type { HoldfastError } from '../../../src/contract/errors.ts'
import type { HoldfastEvent } from '../../../src/contract/events.ts'
import { topic } from '../../../src/contract/topic.ts'
import { ReliablePublisher } from '../../../src/publish/publisher.ts'
import { OutboxRelay } from '../../../src/publish/relay.ts'
import { anyDriver, OpenedFiles } from './opened-files.ts'
import { envelopes, openBroker, send, soon, until, words } from './stage.ts'

const files = new OpenedFiles()

const Orders = topic<{ readonly n: number }>('orders')
const topics = { orders: { groups: ['billing'] } }

function dropTable(file: string): void {
  files.exec(file, 'DROP TABLE holdfast_message')
}

/** Overwrites the page the table of messages begins with. */
function damageTable(file: string): void {
  const raw = anyDriver.connect(file)
  const root = raw
    .prepare("SELECT rootpage FROM sqlite_schema WHERE name = 'holdfast_message'")
    .get()?.['rootpage'] as number
  const size = raw.prepare('PRAGMA page_size').get()?.['page_size'] as number
  raw.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  raw.close()
  const handle = openSync(file, 'r+')
  writeSync(handle, Buffer.alloc(size, 0xee), 0, size, (root - 1) * size)
  closeSync(handle)
}

const broken = [
  { what: 'a damaged table', code: 'storage-corrupt', make: damageTable },
  { what: 'no table', code: 'storage', make: dropTable },
] as const

describe('a broker file with healthy messages on their way to it', () => {
  it.each(broken)('keeps every outbox row while it has $what', async ({ code, make }) => {
    const [broken, shop] = [files.next(), files.next()]
    const broker = await openBroker({ file: broken })
    await broker.close(soon())
    const outbox = sqliteOutbox({ file: shop })
    const database = await files.database(shop)
    const events: HoldfastEvent[] = []
    const on = (event: HoldfastEvent): void => void events.push(event)
    const common = { broker: sqlite({ file: broken }), outbox, topics, logging: 'silent' } as const
    const publisher = new ReliablePublisher(common)
    files.afterwards(() => publisher.close({ timeoutMs: 500 }))
    await publisher.open()
    make(broken)
    await database.transaction(async (tx) => {
      for (let n = 0; n < 20; n++) await publisher.publishIn(tx, Orders, { n })
    })
    const relay = new OutboxRelay({ ...common, attempts: 1, on })
    files.afterwards(() => relay.close({ timeoutMs: 500 }))
    await relay.start()
    const told = (): HoldfastError | undefined => {
      const found = events.find(({ type }) => type === 'relay.error')
      return found?.type === 'relay.error' ? (found.error as HoldfastError) : undefined
    }
    await until(() => told() !== undefined, 'an event that says what is wrong')
    expect(told()?.code).toBe(code)
    expect(await outbox.stats()).toMatchObject({ pending: 20, dead: 0 })
    expect(events.filter(({ type }) => type === 'relay.parked')).toEqual([])
  })

  it('does not call messages bad that came together when a table is missing', async () => {
    const file = files.next()
    const broker = await files.broker(file)
    const database = await files.database(file)
    await database.transaction((tx) => tx.run('DROP TABLE holdfast_message'))
    const [one, other] = [broker.sender('relay'), broker.sender('relay')]
    // In one turn, so that each is tried alone after it failed in company.
    const both = [send(one, envelopes(['a'])), send(other, envelopes(['b']))]
    for (const outcomes of await Promise.all(both)) expect(words(outcomes)).toEqual(['storage'])
  })
})
