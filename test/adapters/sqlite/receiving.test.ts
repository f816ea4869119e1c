import { beforeEach, describe, expect, it } from 'vitest'

import { brokerSql } from '../../../adapters/sqlite/broker-schema.ts'
import type { Connection } from '../../../adapters/sqlite/driver.ts'
import type { Broker, Delivery } from '../../../src/contract/broker.ts'
import { systemClock } from '../../../src/contract/clock.ts'
import { OpenedFiles } from './opened-files.ts'
import {
  context,
  envelopes,
  group,
  rejection,
  send,
  soon,
  take,
  type Taker,
  until,
} from './stage.ts'

const files = new OpenedFiles()

describe('receiving from a SQLite file', () => {
  let file: string
  let broker: Broker
  let outside: Connection

  beforeEach(async () => {
    file = files.next()
    broker = await files.broker(file, { leaseMs: 600 })
    outside = files.outside(file)
    outside.exec('PRAGMA busy_timeout = 5000')
  })

  const publish = (ids: readonly string[], key: string | null = 'k'): Promise<unknown> =>
    send(broker.sender('publish'), envelopes(ids, { key }))
  const spread = (count: number): Promise<unknown> =>
    send(
      broker.sender('publish'),
      Array.from({ length: count }, (_, n) => envelopes([`m${n}`], { key: `k${n}` })[0]!),
    )
  const arrived = (taker: Taker, count: number): Promise<void> =>
    until(() => taker.deliveries.length >= count, `${count} deliveries`)

  /** As if whoever has the buckets had died: nothing is told, only time frees them. */
  function die(taker: Taker): void {
    outside.exec(
      "UPDATE holdfast_lease SET owner = 'the dead' WHERE owner IS NOT NULL AND scope > 0",
    )
    void taker
  }

  it('needs no statement that searches more than it has to', () => {
    const plan = (sql: string, count: number): string =>
      outside
        .prepare(`EXPLAIN QUERY PLAN ${sql}`)
        .all(...Array.from({ length: count }, () => 1))
        .map(({ detail }) => detail)
        .join('; ')
    expect(plan(brokerSql.claimOrdered, 4)).toMatch(
      /^SEARCH holdfast_message USING INDEX holdfast_message_ready.*SEARCH w USING.*INDEX holdfast_message_retry/,
    )
    expect(plan(brokerSql.remove, 3)).toMatch(/USING INTEGER PRIMARY KEY.*l USING PRIMARY KEY/)
    expect(plan(brokerSql.wakeDue, 1)).toMatch(/USING.*INDEX holdfast_message_due/)
    expect(plan(brokerSql.lookRows, 2)).not.toMatch(/SCAN/)
    expect(plan(brokerSql.depth, 2)).not.toMatch(/SCAN holdfast_message/)
    const browse = plan(brokerSql.browse, 5)
    expect(browse).toMatch(/INDEX holdfast_message_ready.*INDEX holdfast_message_due/)
    expect(browse).not.toMatch(/SCAN holdfast_message/)
  })

  it('says which group is missing', async () => {
    const error = await rejection(take(broker, undefined, { group: 'nobody' }))
    expect(error.code).toBe('topology')
    expect(error.message).toMatch(/group "nobody" of topic "orders" is not in .*declare it/)
    const unknown = await rejection(take(broker, undefined, { ordering: 'partition' }))
    expect(unknown.name).toBe('CapabilityError')
    expect(unknown.message).toMatch(/'partition'.*it keeps: key, none/)
  })

  it('delivers again what a dead holder had, as redelivered, with the same attempt', async () => {
    const first = await take(broker)
    await publish(['a', 'b'])
    await arrived(first, 2)
    await publish(['c'])
    await arrived(first, 3)
    expect(first.deliveries.map(({ redelivered }) => redelivered)).toEqual(['no', 'no', 'no'])
    first.receiver.pause()
    await publish(['never handed out'])
    die(first)
    await first.receiver.close(soon())
    const second = await take(broker)
    await arrived(second, 4)
    expect(second.ids).toEqual(['a', 'b', 'c', 'never handed out'])
    expect(second.deliveries.map(({ redelivered }) => redelivered)).toEqual([
      'yes',
      'yes',
      'yes',
      'no',
    ])
    expect(second.deliveries.map(({ attempt }) => attempt)).toEqual([1, 1, 1, 1])
  })

  it('waits for the lease of a dead holder, and takes nothing before it expires', async () => {
    await publish(['a'])
    const lasts = systemClock.wallMs() + 400
    outside.exec(`UPDATE holdfast_lease SET owner = 'the dead', epoch = 7, expires_at = ${lasts}`)
    const taker = await take(broker)
    await arrived(taker, 1)
    expect(systemClock.wallMs()).toBeGreaterThanOrEqual(lasts)
    expect(taker.deliveries[0]?.source.epoch).toBe(8)
  })

  it('does not wait for a holder that was closed', async () => {
    const slow = await files.broker(file, { leaseMs: 60_000 })
    const first = await take(slow)
    await publish(['a'])
    await arrived(first, 1)
    await slow.close(soon())
    const startedMs = systemClock.now()
    const second = await take(broker)
    await arrived(second, 1)
    expect(systemClock.now() - startedMs).toBeLessThan(5_000)
  })

  it('fences the settles of a holder whose buckets were taken over', async () => {
    const around = context()
    const zombie = await files.broker(file, { pollMs: 60_000, leaseMs: 60_000 }, around)
    const first = await take(zombie)
    await publish(['a', 'b'])
    await arrived(first, 2)
    const far = systemClock.wallMs() + 60_000
    const taken = `owner = 'a thief', epoch = epoch + 1, expires_at = ${far}`
    outside.exec(`UPDATE holdfast_lease SET ${taken} WHERE scope > 0`)
    // It knows nothing of that yet: only the file can say so.
    first.deliveries[0]?.ack()
    first.deliveries[1]?.retry?.(0)
    await until(
      () => around.events.filter(({ type }) => type === 'settle.stale').length === 2,
      'two stale settles',
    )
    const rows = outside.prepare('SELECT message_id AS id, attempt, due_at FROM holdfast_message')
    expect(rows.all().map((row) => Object.values(row))).toEqual([
      ['a', 1, null],
      ['b', 1, null],
    ])
    await until(() => first.lostSources.length === 64, 'the loss to be noticed')
    outside.exec("UPDATE holdfast_lease SET expires_at = 0 WHERE owner = 'a thief'")
    const second = await take(broker, (delivery) => delivery.ack())
    await until(async () => {
      for (const delivery of first.deliveries.slice(2)) delivery.ack()
      return (await broker.inspect?.depth(group)) === 0
    }, 'everything to be finished by whoever has it now')
    expect(first.deliveries.length + second.deliveries.length).toBeGreaterThanOrEqual(4)
  })

  it('says so when it cannot receive, and goes on when it can again', async () => {
    const around = context()
    const failing = await files.broker(file, {}, around)
    const taker = await take(failing)
    await send(failing.sender('publish'), envelopes(['before']))
    await arrived(taker, 1)
    outside.exec('ALTER TABLE holdfast_lease RENAME COLUMN handed_to TO elsewhere')
    await send(failing.sender('publish'), envelopes(['a']))
    const isTold = (): boolean =>
      around.events.some((event) => event.type === 'warning' && event.code === 'sqlite.receiving')
    await until(isTold, 'the warning')
    outside.exec('ALTER TABLE holdfast_lease RENAME COLUMN elsewhere TO handed_to')
    await until(() => taker.ids.includes('a'), 'the message')
  })

  it('hands out nothing of a bucket that somebody else has by now', async () => {
    const unaware = await files.broker(file, { pollMs: 60_000, leaseMs: 60_000 })
    const taker = await take(unaware)
    await send(unaware.sender('publish'), envelopes(['before']))
    await arrived(taker, 1)
    const far = systemClock.wallMs() + 60_000
    const taken = `owner = 'somebody else', epoch = epoch + 1, expires_at = ${far}`
    outside.exec(`UPDATE holdfast_lease SET ${taken} WHERE scope > 0`)
    await send(unaware.sender('publish'), envelopes(['after']))
    await until(() => taker.lostSources.length === 64, 'the claim to find out')
    expect(taker.ids).toEqual(['before'])
  })

  it('loses its sources when it could not renew them in time, and gets new ones', async () => {
    const taker = await take(broker)
    await publish(['a'])
    await arrived(taker, 1)
    outside.exec('BEGIN IMMEDIATE')
    await until(() => taker.lostSources.length === 64, 'the loss of all sources')
    expect(taker.lostSources).toContain(taker.deliveries[0]?.source)
    outside.exec('ROLLBACK')
    await arrived(taker, 2)
    expect(taker.deliveries[1]?.source).not.toBe(taker.deliveries[0]?.source)
    expect(taker.deliveries[1]).toMatchObject({ redelivered: 'yes', attempt: 1 })
  })

  it('shares its buckets with a receiver that comes, asking first', async () => {
    const first = await take(broker, (delivery) => delivery.ack())
    await spread(40)
    await arrived(first, 40)
    const other = await files.broker(file, { leaseMs: 600 })
    const second = await take(other, (delivery) => delivery.ack())
    await until(() => first.asked.length === 32, 'half of the sources to be asked back')
    for (const [round, prefix] of ['x', 'y'].entries()) {
      const sent = Array.from(
        { length: 60 },
        (_, n) => envelopes([`${prefix}${n}`], { key: `k${n}` })[0]!,
      )
      await send(broker.sender('publish'), sent)
      await until(
        () => first.deliveries.length + second.deliveries.length === 40 + 60 * (round + 1),
        'all messages',
      )
    }
    await until(() => second.deliveries.length > 0, 'the second to get some')
    const both = new Set(first.deliveries.slice(40).map(({ source }) => source.name))
    for (const { source } of second.deliveries) expect(both.has(source.name)).toBe(false)
    expect(first.lostSources).toEqual([])
  })

  it('hands over a source only when its consumer has finished or given back', async () => {
    const finish: (() => void)[] = []
    const first = await take(broker)
    first.revoking = (sources) => {
      first.asked.push(...sources)
      return new Promise<void>((resolve) => finish.push(resolve))
    }
    await spread(64)
    await arrived(first, 64)
    const other = await files.broker(file, { leaseMs: 2_000 })
    const second = await take(other)
    await until(() => first.asked.length === 32, 'the question')
    const asked = new Set(first.asked)
    for (const delivery of first.deliveries) if (asked.has(delivery.source)) delivery.ack()
    await first.receiver.flush(soon())
    expect(second.deliveries).toEqual([])
    for (const resolve of finish) resolve()
    await publish(['late'], 'some key')
    await until(() => first.deliveries.length + second.deliveries.length === 65, 'the late one')
    expect(second.ids.filter((id) => id !== 'late')).toEqual([])
  })

  it('gives all to the one that is left', async () => {
    const other = await files.broker(file, { leaseMs: 60_000 })
    const first = await take(other)
    const second = await take(broker, (delivery) => delivery.ack())
    await until(() => first.asked.length === 32, 'the handover')
    await other.close(soon())
    await spread(100)
    await arrived(second, 100)
  })

  describe('retry()', () => {
    it('holds later messages of the key back also after its holder has died', async () => {
      const first = await take(broker)
      await publish(['1', '2', '3'])
      await send(broker.sender('publish'), envelopes(['x'], { key: 'other' }))
      await arrived(first, 4)
      first.deliveries[0]?.retry?.(700)
      await first.receiver.flush(soon())
      const retriedMs = systemClock.now()
      die(first)
      await first.receiver.close(soon())
      const second = await take(broker)
      await arrived(second, 1)
      expect(second.ids).toEqual(['x'])
      await arrived(second, 4)
      expect(systemClock.now() - retriedMs).toBeGreaterThanOrEqual(650)
      expect(second.ids).toEqual(['x', '1', '2', '3'])
      expect(second.deliveries[1]).toMatchObject({ attempt: 2, redelivered: 'yes' })
    })

    it('holds nothing back where order does not count', async () => {
      const first = await take(broker, undefined, { ordering: 'none' })
      await publish(['1', '2'])
      await arrived(first, 2)
      first.deliveries[0]?.retry?.(300)
      first.deliveries[1]?.release()
      await arrived(first, 4)
      expect(first.ids).toEqual(['1', '2', '2', '1'])
    })

    it('is never early', async () => {
      const asked: number[] = []
      const gaps: number[] = []
      const taker = await take(broker, (delivery: Delivery) => {
        const now = systemClock.now()
        if (delivery.attempt > 1) gaps.push(now - asked[delivery.attempt - 2]!)
        if (delivery.attempt > 8) return delivery.ack()
        asked[delivery.attempt - 1] = now
        delivery.retry?.(15)
      })
      await publish(['a'])
      await arrived(taker, 9)
      for (const gap of gaps) expect(gap).toBeGreaterThanOrEqual(15)
    })
  })

  it('leaves rows of a later version to a later reader', async () => {
    await publish(['old', 'new'])
    outside.exec("UPDATE holdfast_message SET v = 2 WHERE message_id = 'new'")
    const taker = await take(broker)
    await arrived(taker, 1)
    await publish(['next'])
    await arrived(taker, 2)
    expect(taker.ids).toEqual(['old', 'next'])
  })

  it('never uses the id of a finished message again', async () => {
    const taker = await take(broker, (delivery) => delivery.ack())
    await publish(['a', 'b'])
    await arrived(taker, 2)
    await taker.receiver.flush(soon())
    const before = taker.deliveries.map(({ at }) => Number(at.split('#')[1]))
    await broker.close(soon())
    broker = await files.broker(file)
    const again = await take(broker)
    await publish(['c'])
    await arrived(again, 1)
    expect(Number(again.deliveries[0]?.at.split('#')[1])).toBeGreaterThan(Math.max(...before))
  })

  it('holds a large body to the bound on bytes, and one beyond it alone', async () => {
    const body = new Uint8Array(400_000)
    const sent = Array.from({ length: 6 }, (_, n) => envelopes([`m${n}`], { key: null, body })[0]!)
    await send(broker.sender('publish'), sent)
    const maxHeld = { messages: 100, bytes: 1_000_000 }
    const taker = await take(broker, undefined, { maxHeld })
    await arrived(taker, 2)
    await until(() => taker.deliveries.length >= 2, 'two of them')
    expect(taker.deliveries).toHaveLength(2)
    const tight = await take(broker, undefined, { maxHeld: { messages: 100, bytes: 1_000 } })
    files.afterwards(() => tight.receiver.close(soon()))
    for (const delivery of taker.deliveries) delivery.ack()
    await taker.receiver.close(soon())
    await arrived(tight, 1)
    expect(tight.deliveries).toHaveLength(1)
    tight.deliveries[0]?.ack()
    await arrived(tight, 2)
    expect(tight.deliveries).toHaveLength(2)
  })
})
