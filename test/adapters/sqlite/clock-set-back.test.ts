import { afterAll, afterEach, describe, expect, it } from 'vitest'

import type { Driver } from '../../../adapters/sqlite/driver.ts'
import { sqliteOutbox } from '../../../adapters/sqlite/index.ts'
import type { LeaseGrant } from '../../../src/contract/store.ts'
import { availableDrivers, scratch } from './scratch.ts'
import { context, envelopes, openBroker, send, soon, take, until } from './stage.ts'

const folder = scratch()
let files = 0

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
})
afterAll(() => folder.remove())

const driver = (await availableDrivers())[0] as Driver
const IN_AN_HOUR = "CAST(round(unixepoch('subsec') * 1000) AS INTEGER) + 3600000"

/** Somebody died with every lease, under a clock that was an hour ahead. */
function diedAnHourAhead(file: string): void {
  const raw = driver.connect(file)
  raw.exec(`UPDATE holdfast_lease SET owner = 'the dead', epoch = 7, expires_at = ${IN_AN_HOUR};
    INSERT INTO holdfast_contender (scope, owner, expires_at)
      SELECT DISTINCT scope, 'the dead', ${IN_AN_HOUR} FROM holdfast_lease`)
  raw.close()
}

describe('after the clock was set back by an hour', () => {
  it('a receiver gets the buckets of a dead one within ten times its leaseMs', async () => {
    const file = folder.file(`clock-${files++}.db`)
    const broker = await openBroker({ file, pollMs: 5, leaseMs: 500 })
    closing.push(() => broker.close(soon()))
    // Makes the leases of the group.
    const first = await take(broker)
    await first.receiver.close(soon())
    diedAnHourAhead(file)
    const ids = Array.from({ length: 200 }, (_, n) => `m${n}`)
    await send(broker.sender('publish'), envelopes(ids, { key: null }))
    const taker = await take(broker)
    await until(() => taker.ids.length === 200, 'every message')
    expect(new Set(taker.ids)).toEqual(new Set(ids))
  })

  it('a relay gets the buckets of a dead one, and counts it no more', async () => {
    const file = folder.file(`clock-${files++}.db`)
    const outbox = sqliteOutbox({ file, buckets: 8 })
    await outbox.open(context())
    closing.push(() => outbox.close())
    diedAnHourAhead(file)
    let grant: LeaseGrant = await outbox.lease('one', 8, 100)
    expect(grant).toMatchObject({ leases: [], contenders: 2 })
    await until(async () => {
      grant = await outbox.lease('one', 8, 100)
      return grant.leases.length === 8
    }, 'every bucket')
    expect(grant.contenders).toBe(1)
  })

  it('nobody loses what it renews', async () => {
    const file = folder.file(`clock-${files++}.db`)
    const outbox = sqliteOutbox({ file, buckets: 4 })
    await outbox.open(context())
    closing.push(() => outbox.close())
    const before = await outbox.lease('living', 4, 300)
    const raw = driver.connect(file)
    raw.exec(`UPDATE holdfast_lease SET expires_at = ${IN_AN_HOUR}`)
    raw.close()
    expect((await outbox.lease('other', 4, 300)).leases).toEqual([])
    expect((await outbox.lease('living', 4, 300)).leases).toEqual(before.leases)
    expect((await outbox.lease('other', 4, 300)).leases).toEqual([])
  })
})
