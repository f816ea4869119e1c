import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'

import { Prepared } from '../../../adapters/sqlite/prepared.ts'
import { type SqliteDatabase, type SqliteTransaction } from '../../../adapters/sqlite/index.ts'
import type { Broker, Delivery } from '../../../src/contract/broker.ts'
import { systemClock } from '../../../src/contract/clock.ts'
import type { CrashPoint } from '../../../src/contract/crash-points.ts'
import type { ClaimResult, Identified } from '../../../src/contract/store.ts'
import { OpenedFiles } from './opened-files.ts'
import {
  context,
  envelopes,
  group,
  GROUP,
  rejection,
  rowsFor,
  send,
  soon,
  take,
  TOPIC,
  until,
} from './stage.ts'

const files = new OpenedFiles()
const consumer = `${TOPIC}.${GROUP}`

describe('an inbox in a SQLite file', () => {
  let file: string
  let database: SqliteDatabase

  beforeEach(async () => {
    file = files.next()
    database = await files.database(file)
    await database.transaction((tx) => {
      tx.run('CREATE TABLE effects (id)')
    })
  })
  afterEach(() => void vi.restoreAllMocks())

  const effect = (tx: SqliteTransaction, id: string): void => {
    tx.run('INSERT INTO effects (id) VALUES (?)', id)
  }
  const effects = (): Promise<unknown[]> =>
    database.transaction((tx) =>
      tx.all('SELECT id FROM effects ORDER BY rowid').map(({ id }) => id),
    )
  const named = (ids: readonly string[]): Identified[] => ids.map((id) => ({ consumer, id }))
  const held = (deliveries: readonly Delivery[]): Identified[] =>
    deliveries.map((delivery) => ({ consumer, id: delivery.envelope.id as string, delivery }))

  /** One delivery of each id, held. */
  async function received(broker: Broker, ids: readonly string[]): Promise<readonly Delivery[]> {
    await send(broker.sender('publish'), envelopes(ids))
    const taker = await take(broker)
    await until(() => taker.deliveries.length === ids.length, 'the messages')
    return taker.deliveries
  }

  describe('with the broker on the same file', () => {
    it('finishes the delivery in the commit of the effect, without an ack', async () => {
      const broker = await files.broker(file)
      const inbox = await files.inbox(file)
      const deliveries = await received(broker, ['a', 'b'])
      const results = await inbox.run(held(deliveries), 'each', async (tx, [index]) => {
        effect(tx, String(index))
        return ['done']
      })
      expect(results).toEqual(['committed', 'committed'])
      expect(await broker.inspect?.depth(group)).toBe(0)
      for (const delivery of deliveries) delivery.ack()
      await broker.close(soon())
      const later = await files.broker(file)
      expect(await later.inspect?.depth(group)).toBe(0)
    })

    it('finishes duplicates too, and leaves what failed where it is', async () => {
      const broker = await files.broker(file)
      const inbox = await files.inbox(file)
      await inbox.run(named(['a']), 'each', async () => ['done'])
      const deliveries = await received(broker, ['a', 'b', 'c'])
      for (const mode of ['each', 'batch'] as const) {
        const results = await inbox.run(held(deliveries), mode, async (_, fresh) =>
          fresh.map((index) => (index === 1 ? 'failed' : 'done')),
        )
        expect(results[1]).toBe('failed')
      }
      const left = await broker.inspect?.browse(group, 10)
      expect(left?.map(({ id }) => id)).toEqual(['b'])
    })

    it('finishes nothing when the transaction rolls back', async () => {
      const broker = await files.broker(file)
      const inbox = await files.inbox(file)
      const deliveries = await received(broker, ['a', 'b'])
      const running = inbox.run(held(deliveries), 'each', async (tx, [index]) => {
        effect(tx, String(index))
        if (index === 1) throw new Error('no')
        return ['done']
      })
      expect((await rejection(running)).message).toBe('no')
      expect(await broker.inspect?.depth(group)).toBe(2)
      expect(await effects()).toEqual([])
      for (const delivery of deliveries) delivery.ack()
      await until(async () => (await broker.inspect?.depth(group)) === 0, 'the acks to count')
    })

    it('finishes nothing of a bucket that somebody else has by now', async () => {
      const broker = await files.broker(file)
      const inbox = await files.inbox(file)
      const [delivery] = await received(broker, ['a'])
      const results = await inbox.run(held([delivery as Delivery]), 'each', async (tx) => {
        tx.run("UPDATE holdfast_lease SET owner = 'thief', epoch = epoch + 1 WHERE scope > 0")
        return ['done']
      })
      expect(results).toEqual(['committed'])
      expect(await broker.inspect?.depth(group)).toBe(1)
    })

    it('commits effect, inbox row, outbox row and acknowledgement together', async () => {
      const broker = await files.broker(file)
      const outbox = await files.outbox(file)
      const inbox = await files.inbox(file)
      const deliveries = await received(broker, ['a'])
      const run = vi.spyOn(Prepared.prototype, 'run')
      await inbox.run(held(deliveries), 'each', async (tx) => {
        effect(tx, 'a')
        await outbox.append(tx, rowsFor(['follow-up']))
        return ['done']
      })
      const sql = run.mock.calls.map(([text]) => text)
      const commits = sql.filter((text) => text === 'COMMIT')
      expect(commits).toHaveLength(1)
      expect(await effects()).toEqual(['a'])
      expect((await outbox.stats()).pending).toBe(1)
      expect(await broker.inspect?.depth(group)).toBe(0)
    })
  })

  it('leaves the delivery to its ack when the broker is on another file', async () => {
    const broker = await files.broker(files.next())
    const inbox = await files.inbox(file)
    const deliveries = await received(broker, ['a'])
    await inbox.run(held(deliveries), 'each', async () => ['done'])
    expect(await broker.inspect?.depth(group)).toBe(1)
    deliveries[0]?.ack()
    await until(async () => (await broker.inspect?.depth(group)) === 0, 'the ack')
  })

  it('goes on in a new transaction when one has lasted long enough', async () => {
    const inbox = await files.inbox(file, { maxTransactionMs: 20 })
    const visible: unknown[][] = []
    const others: Promise<unknown>[] = []
    const results = await inbox.run(named(['a', 'b', 'c']), 'each', async (tx, [index]) => {
      effect(tx, String(index))
      if (index === 0) others.push(new Promise<void>((resolve) => systemClock.defer(resolve)))
      await new Promise<void>((resolve) => systemClock.after(25, resolve))
      visible.push(tx.all('SELECT id FROM effects'))
      return ['done']
    })
    expect(results).toEqual(['committed', 'committed', 'committed'])
    expect(await effects()).toEqual(['0', '1', '2'])
  })

  it('lets others write between two parts of a long slice', async () => {
    const inbox = await files.inbox(file, { maxTransactionMs: 10 })
    const order: string[] = []
    const slice = inbox.run(named(['a', 'b']), 'each', async (_, [index]) => {
      await new Promise<void>((resolve) => systemClock.after(20, resolve))
      order.push(`handler ${index}`)
      return ['done']
    })
    const own = database.transaction((tx) => effect(tx, 'own')).then(() => order.push('own'))
    await Promise.all([slice, own])
    expect(order).toEqual(['handler 0', 'own', 'handler 1'])
  })

  it('keeps the parts committed before a later one failed', async () => {
    const inbox = await files.inbox(file, { maxTransactionMs: 10 })
    const slice = inbox.run(named(['a', 'b']), 'each', async (tx, [index]) => {
      effect(tx, String(index))
      if (index === 1) throw new Error('no')
      await new Promise<void>((resolve) => systemClock.after(20, resolve))
      return ['done']
    })
    expect((await rejection(slice)).message).toBe('no')
    expect(await effects()).toEqual(['0'])
    const again = await inbox.run(named(['a', 'b']), 'each', async (tx, [index]) => {
      effect(tx, String(index))
      return ['done']
    })
    expect(again).toEqual(['duplicate', 'committed'])
    expect(await effects()).toEqual(['0', '1'])
  })

  it('warns of a handler that keeps everybody waiting', async () => {
    const around = context()
    const inbox = await files.inbox(file, { maxTransactionMs: 10 }, around)
    await inbox.run(named(['a']), 'each', async () => {
      await new Promise<void>((resolve) => systemClock.after(30, resolve))
      return ['done']
    })
    expect(around.events).toContainEqual(
      expect.objectContaining({ type: 'warning', code: 'sqlite.long-transaction' }),
    )
  })

  it('refuses work that does not answer for every message', async () => {
    const inbox = await files.inbox(file)
    for (const answer of [[], ['done', 'done'], undefined]) {
      const running = inbox.run(named(['a']), 'each', async () => answer as ['done'])
      expect((await rejection(running)).message).toMatch(/work: .*1 results/)
    }
    expect(await inbox.run(named(['a']), 'each', async () => ['done'])).toEqual(['committed'])
  })

  it('closes the tx of a message when its work has ended', async () => {
    const inbox = await files.inbox(file)
    const kept: SqliteTransaction[] = []
    const results = await inbox.run(named(['a', 'b']), 'each', async (tx, [index]) => {
      kept.push(tx)
      // The handler of the first message goes on, although its time was over.
      if (index === 1) expect(() => effect(kept[0]!, 'late')).toThrow(/the transaction is over/)
      return [index === 0 ? 'failed' : 'done']
    })
    expect(results).toEqual(['failed', 'committed'])
    expect(await effects()).toEqual([])
  })

  it('visits its crash points where they belong', async () => {
    const around = context()
    const points: CrashPoint[] = []
    const inbox = await files.inbox(
      file,
      {},
      { ...around, crash: { at: (point) => void points.push(point) } },
    )
    await inbox.run(named(['a', 'b']), 'each', async () => ['done'])
    expect(points).toEqual([
      'after_begin',
      'after_inbox_insert',
      'after_inbox_insert',
      'after_effect',
    ])
    points.length = 0
    await inbox.run(named(['a']), 'batch', async () => ['done'])
    expect(points).toEqual(['after_begin', 'after_effect'].slice(0, 1))
  })

  it('forgets what is older than its retention while it is used', async () => {
    const inbox = await files.inbox(file, { retentionMs: 1_000 })
    await inbox.run(named(['old', 'kept']), 'each', async () => ['done'])
    await inbox.keep(consumer, ['kept'])
    await inbox.attempts?.started(consumer, 'old')
    await database.transaction((tx) => {
      tx.run('UPDATE holdfast_inbox SET at = at - 5000')
      tx.run('UPDATE holdfast_attempt SET at = at - 5000')
    })
    const again = await files.inbox(file, { retentionMs: 1_000 })
    await again.run(named(['new']), 'each', async () => ['done'])
    const ids = (): Promise<unknown[]> =>
      database.transaction((tx) =>
        tx.all('SELECT message_id AS id FROM holdfast_inbox ORDER BY id').map(({ id }) => id),
      )
    await until(async () => (await ids()).length === 2, 'the old row to go')
    expect(await ids()).toEqual(['kept', 'new'])
    expect(await again.attempts?.started(consumer, 'old')).toBe(1)
  })

  it('answers 8 consumers with 16 handlers each at once, one of which fails', async () => {
    const inboxes = await Promise.all(Array.from({ length: 8 }, () => files.inbox(file)))
    const runs = inboxes.flatMap((inbox, who) =>
      Array.from({ length: 16 }, async (_, n): Promise<readonly ClaimResult[]> =>
        inbox.run([{ consumer: `c${who}`, id: `m${n}` }], 'each', async (tx) => {
          effect(tx, `${who}.${n} begins`)
          await new Promise<void>((resolve) => systemClock.defer(resolve))
          if (n === 5) throw new Error('this one')
          effect(tx, `${who}.${n} ends`)
          return ['done']
        }),
      ),
    )
    const ended = await Promise.allSettled(runs)
    expect(ended.filter(({ status }) => status === 'rejected')).toHaveLength(8)
    const lines = (await effects()) as string[]
    expect(lines).toHaveLength(8 * 15 * 2)
    // Serial: what begins, ends next.
    for (let at = 0; at < lines.length; at += 2) {
      expect(lines[at + 1]).toBe(String(lines[at]).replace('begins', 'ends'))
    }
  })
})
