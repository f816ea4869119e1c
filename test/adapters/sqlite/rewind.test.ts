import { afterEach, describe, expect, it } from 'vitest'

import type { Driver } from '../../../adapters/sqlite/driver.ts'
import { sqlite } from '../../../adapters/sqlite/index.ts'
import type { Broker, Delivery, DeliverySink } from '../../../src/contract/broker.ts'
import { systemClock, systemRandom } from '../../../src/contract/clock.ts'
import { noCrashes } from '../../../src/contract/crash-points.ts'
import { silent } from '../../../src/contract/events.ts'
import { NO_HEADERS, type Envelope } from '../../../src/contract/message.ts'
import { availableDrivers, scratch } from './scratch.ts'

const folder = scratch()
const topology = {
  topics: [
    { name: 'orders', groups: ['billing'], partitions: null, ordering: 'key', retryLevelsMs: [] },
  ],
} as const

function envelope(id: string): Envelope {
  return {
    id,
    type: null,
    producer: null,
    to: { kind: 'topic', topic: 'orders' },
    key: Buffer.from(id),
    orderKey: id,
    body: Buffer.from(id),
    headers: NO_HEADERS,
    contentType: null,
    timeMs: null,
    deliverAtMs: null,
  }
}

async function openBroker(file: string, driver: Driver): Promise<Broker> {
  const broker = sqlite({ file, driver: driver.name, pollMs: 5 })
  const { signal } = new AbortController()
  const parts = { clock: systemClock, random: systemRandom, crash: noCrashes }
  await broker.open({ ...parts, emit: silent, signal })
  await broker.provision(topology, 'create')
  return broker
}

async function store(broker: Broker, ids: readonly string[]): Promise<void> {
  const sender = broker.sender('publish')
  await new Promise<void>((resolve) => {
    let left = ids.length
    sender.send(ids.map(envelope), systemClock.now() + 10_000, (from, to) => {
      left -= to - from
      if (left === 0) resolve()
    })
  })
}

function acknowledging(seen: Set<string>): DeliverySink {
  return {
    deliver: (_source, batch: readonly Delivery[]) => {
      for (const delivery of batch) {
        seen.add(String(delivery.envelope.id))
        delivery.ack()
      }
    },
    revoking: () => Promise.resolve(),
    lost: () => undefined,
    ended: () => undefined,
  }
}

async function until(holds: () => boolean, what: () => string): Promise<void> {
  for (const giveUpAt = systemClock.now() + 10_000; !holds();) {
    if (systemClock.now() > giveUpAt) throw new Error(what())
    await new Promise<void>((resolve) => systemClock.after(5, resolve))
  }
}

describe.each(await availableDrivers())('a receiver with $name', (driver) => {
  let broker: Broker | undefined

  afterEach(async () => {
    await broker?.close(systemClock.now() + 5_000)
    folder.remove()
  })

  it('delivers what lies behind its cursor when a bucket comes in the turn of a claim', async () => {
    const file = folder.file('broker.db')
    broker = await openBroker(file, driver)
    const ids = Array.from({ length: 400 }, (_, index) => `m-${index}`)
    await store(broker, ids)
    const outside = driver.connect(file)
    outside.exec('PRAGMA busy_timeout = 5000')
    const theirs = "owner = 'somebody else'"
    const later = systemClock.wallMs() + 600_000
    outside.exec(`UPDATE holdfast_lease SET ${theirs}, expires_at = ${later} WHERE bucket >= 32`)

    const seen = new Set<string>()
    const subscription = {
      topics: ['orders'],
      group: 'billing',
      ordering: 'key',
      from: 'now',
      maxHeld: { messages: 1_000, bytes: 1_000_000 },
    } as const
    await broker.receive(subscription, acknowledging(seen))
    const left = outside.prepare('SELECT count(*) AS left FROM holdfast_message WHERE bucket < 32')
    await until(
      () => left.get()?.['left'] === 0,
      () => `only ${seen.size} came`,
    )
    expect(seen.size).toBeLessThan(ids.length)

    // Seen by one look: buckets to take and a row to claim, which end up in the same transaction.
    outside.exec(`BEGIN IMMEDIATE;
      UPDATE holdfast_lease SET owner = NULL, expires_at = 0 WHERE ${theirs};
      INSERT INTO holdfast_message (queue, bucket, key_hash, v, message_id, message_key, body)
        SELECT queue, 0, key_hash, v, 'last', message_key, body FROM holdfast_message LIMIT 1;
      COMMIT`)
    outside.close()
    await until(
      () => seen.size === ids.length + 1,
      () => `${seen.size} of ${ids.length + 1} messages came`,
    )
  })
})
