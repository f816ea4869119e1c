import { describe, expect, it } from 'vitest'

import type { LeaseGrant } from '../../../src/contract/store.ts'
import { OpenedFiles } from './opened-files.ts'
import { envelopes, send, soon, take, until } from './stage.ts'

const files = new OpenedFiles()

const IN_AN_HOUR = "CAST(round(unixepoch('subsec') * 1000) AS INTEGER) + 3600000"

/** Somebody died with every lease, under a clock that was an hour ahead. */
function diedAnHourAhead(file: string): void {
  files.exec(
    file,
    `UPDATE holdfast_lease SET owner = 'the dead', epoch = 7, expires_at = ${IN_AN_HOUR};
    INSERT INTO holdfast_contender (scope, owner, expires_at)
      SELECT DISTINCT scope, 'the dead', ${IN_AN_HOUR} FROM holdfast_lease`,
  )
}

describe('after the clock was set back by an hour', () => {
  it('a receiver gets the buckets of a dead one within ten times its leaseMs', async () => {
    const file = files.next()
    const broker = await files.broker(file, { pollMs: 5, leaseMs: 500 })
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
    const file = files.next()
    const outbox = await files.outbox(file, { buckets: 8 })
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
    const file = files.next()
    const outbox = await files.outbox(file, { buckets: 4 })
    const before = await outbox.lease('living', 4, 300)
    files.exec(file, `UPDATE holdfast_lease SET expires_at = ${IN_AN_HOUR}`)
    expect((await outbox.lease('other', 4, 300)).leases).toEqual([])
    expect((await outbox.lease('living', 4, 300)).leases).toEqual(before.leases)
    expect((await outbox.lease('other', 4, 300)).leases).toEqual([])
  })
})
