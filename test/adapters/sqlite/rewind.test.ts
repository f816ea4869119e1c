import { describe, expect, it } from 'vitest'

import { systemClock } from '../../../src/contract/clock.ts'
import { OpenedFiles } from './opened-files.ts'
import { availableDrivers } from './scratch.ts'
import { envelopes, send, take, until } from './stage.ts'

const files = new OpenedFiles()

describe.each(await availableDrivers())('a receiver with $name', (driver) => {
  it('delivers what lies behind its cursor when a bucket comes in the turn of a claim', async () => {
    const file = files.next()
    const broker = await files.broker(file, { driver: driver.name })
    const ids = Array.from({ length: 400 }, (_, index) => `m-${index}`)
    const keyed = ids.flatMap((id) => envelopes([id], { key: id }))
    await send(broker.sender('publish'), keyed)
    const outside = driver.connect(file)
    files.afterwards(() => outside.close())
    outside.exec('PRAGMA busy_timeout = 5000')
    const theirs = "owner = 'somebody else'"
    const later = systemClock.wallMs() + 600_000
    outside.exec(`UPDATE holdfast_lease SET ${theirs}, expires_at = ${later} WHERE bucket >= 32`)

    const taker = await take(broker, (delivery) => delivery.ack())
    const left = outside.prepare('SELECT count(*) AS left FROM holdfast_message WHERE bucket < 32')
    await until(() => left.get()?.['left'] === 0, 'what is in the buckets that are free')
    expect(taker.ids.length).toBeLessThan(ids.length)

    // Seen by one look: buckets to take and a row to claim, which end up in the same transaction.
    outside.exec(`BEGIN IMMEDIATE;
      UPDATE holdfast_lease SET owner = NULL, expires_at = 0 WHERE ${theirs};
      INSERT INTO holdfast_message (queue, bucket, key_hash, v, message_id, message_key, body)
        SELECT queue, 0, key_hash, v, 'last', message_key, body FROM holdfast_message LIMIT 1;
      COMMIT`)
    await until(() => new Set(taker.ids).size === ids.length + 1, 'everything else')
  })
})
