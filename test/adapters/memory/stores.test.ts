import { describe, expect, it } from 'vitest'

import {
  memoryDatabase,
  memoryInbox,
  memoryOutbox,
  type MemoryDatabase,
  type MemoryInbox,
  type MemoryOutbox,
} from '../../../adapters/memory/index.ts'
import type { CrashPoint, CrashPoints } from '../../../src/contract/crash-points.ts'
import { noCrashes } from '../../../src/contract/crash-points.ts'
import { ClosedError } from '../../../src/contract/errors.ts'
import { silent } from '../../../src/contract/events.ts'
import type { Envelope } from '../../../src/contract/message.ts'
import type { OutboxRow } from '../../../src/contract/store.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'
import { envelope } from './rig.ts'

interface Opened {
  readonly clock: VirtualClock
  readonly db: MemoryDatabase
  readonly outbox: MemoryOutbox
  readonly inbox: MemoryInbox
}

async function open(crash: CrashPoints = noCrashes, lockWaitMs = 1_000): Promise<Opened> {
  const clock = new VirtualClock()
  const db = memoryDatabase({ clock, lockWaitMs })
  const outbox = memoryOutbox({ database: db })
  const inbox = memoryInbox({ database: db })
  const context = { clock, crash, emit: silent, signal: new AbortController().signal }
  await clock.run(Promise.all([outbox.open(context), inbox.open(context)]))
  return { clock, db, outbox, inbox }
}

function row(body: string, deliverAtMs?: number): OutboxRow {
  const made = envelope(body, deliverAtMs === undefined ? {} : { deliverAtMs })
  return { envelope: made as Envelope & { id: string }, hash: 7, keyHash: 0 }
}

const nothing = { ids: [], keyHashes: [], topics: [] }
const message = { consumer: 't.g', id: 'm1' }

/** Throws at the point, as a process that ends there would do no more. */
function dying(at: CrashPoint, visits: CrashPoint[] = []): CrashPoints {
  return {
    at: (point) => {
      visits.push(point)
      if (point === at) throw new Error(`died ${point}`)
    },
  }
}

describe('the memory outbox', () => {
  it('says in how many milliseconds the next scheduled row is due', async () => {
    const { clock, outbox } = await open()
    const now = clock.wallMs()
    await clock.run(outbox.appendAlone([row('b', now + 500), row('a', now + 300)]))
    const { leases } = await clock.run(outbox.lease('one', 64, 60_000))
    expect(await clock.run(outbox.promote(leases, 9))).toEqual({ moved: 0, nextDueMs: 300 })
    await clock.advance(300)
    expect(await clock.run(outbox.promote(leases, 9))).toEqual({ moved: 1, nextDueMs: 200 })
    const [read] = await clock.run(outbox.read(leases, 9, nothing))
    // A broker that cannot schedule takes it too: its time has come.
    expect(read?.envelope.deliverAtMs).toBeNull()
  })

  it('keeps what is parked, with the reason and the time', async () => {
    const { clock, outbox } = await open()
    await clock.run(outbox.appendAlone([row('x')]))
    const { leases } = await clock.run(outbox.lease('one', 64, 60_000))
    const read = await clock.run(outbox.read(leases, 9, nothing))
    await clock.run(outbox.park(leases, read, 'too-large'))
    expect(outbox.dead()).toMatchObject([
      { reason: 'too-large', deadMs: clock.wallMs(), messageId: read[0]?.messageId },
    ])
  })

  it('lets nobody use the handle of another database', async () => {
    const { clock, outbox } = await open()
    const other = memoryDatabase({ clock })
    const tx = other.begin()
    await expect(outbox.append(tx, [row('x')])).rejects.toMatchObject({
      code: 'not-a-transaction',
      message: expect.stringMatching(/a transaction of another database/) as string,
    })
    await expect(outbox.append(other as never, [row('x')])).rejects.toThrow(/the database itself/)
  })

  it('forgets rows of a savepoint that is undone', async () => {
    const { clock, db, outbox } = await open()
    await clock.run(
      db.transaction(async (tx) => {
        await outbox.append(tx, [row('kept')])
        const undone = tx.savepoint(async () => {
          await outbox.append(tx, [row('undone')])
          throw new Error('undo')
        })
        await expect(undone).rejects.toThrow('undo')
      }),
    )
    expect((await clock.run(outbox.stats())).pending).toBe(1)
  })

  it('counts ages on the clock of the database', async () => {
    const { clock, outbox } = await open()
    await clock.run(outbox.appendAlone([row('x')]))
    await clock.advance(700)
    expect((await clock.run(outbox.stats())).oldestAgeMs).toBe(700)
  })

  it('does not tell of a commit that failed, nor after close', async () => {
    const { clock, db, outbox } = await open()
    let heard = 0
    outbox.onAppended(() => heard++)
    db.faults.failCommits()
    await expect(clock.run(outbox.appendAlone([row('x')]))).rejects.toThrow('the commit failed')
    expect(heard).toBe(0)
    await clock.run(outbox.appendAlone([row('x')]))
    expect(heard).toBe(1)
    await outbox.close()
    await expect(clock.run(outbox.stats())).rejects.toThrow(ClosedError)
    await expect(outbox.appendAlone([row('x')])).rejects.toThrow(ClosedError)
    expect(heard).toBe(1)
  })

  it('dies between insert and commit without a row, and after the commit with it', async () => {
    const before = await open(dying('after_insert_before_commit'))
    await expect(before.clock.run(before.outbox.appendAlone([row('x')]))).rejects.toThrow(
      'died after_insert_before_commit',
    )
    const after = await open(dying('after_commit_before_nudge'))
    let nudged = 0
    after.outbox.onAppended(() => nudged++)
    await expect(after.clock.run(after.outbox.appendAlone([row('x')]))).rejects.toThrow(
      'died after_commit_before_nudge',
    )
    expect((await before.clock.run(before.outbox.stats())).pending).toBe(0)
    expect((await after.clock.run(after.outbox.stats())).pending).toBe(1)
    expect(nudged).toBe(0)
  })

  it.each(['during_lease_renew', 'during_delete', 'during_park'] as const)(
    'dies %s and has done nothing',
    async (point) => {
      const visits: CrashPoint[] = []
      let armed = false
      const { clock, outbox } = await open({
        at: (visited) => {
          visits.push(visited)
          if (armed && visited === point) throw new Error(`died ${point}`)
        },
      })
      await clock.run(outbox.appendAlone([row('x')]))
      const { leases } = await clock.run(outbox.lease('one', 64, 60_000))
      const read = await clock.run(outbox.read(leases, 9, nothing))
      armed = true
      const steps = {
        during_lease_renew: () => outbox.lease('other', 64, 60_000),
        during_delete: () => outbox.complete(leases, read),
        during_park: () => outbox.park(leases, read, 'why'),
      }
      await expect(clock.run<unknown>(steps[point]())).rejects.toThrow(`died ${point}`)
      armed = false
      expect(await clock.run(outbox.stats())).toMatchObject({ pending: 1, dead: 0 })
      expect((await clock.run(outbox.lease('one', 64, 60_000))).contenders).toBe(1)
    },
  )
})

describe('the memory inbox', () => {
  it('visits its crash points in order', async () => {
    const visits: CrashPoint[] = []
    const { clock, inbox } = await open({ at: (point) => void visits.push(point) })
    await clock.run(
      inbox.run([message], 'each', async () => {
        visits.push('handler_throw')
        return ['done']
      }),
    )
    expect(visits).toEqual(['after_begin', 'after_inbox_insert', 'handler_throw', 'after_effect'])
  })

  it.each(['after_begin', 'after_inbox_insert', 'after_effect'] as const)(
    'leaves nothing when it dies %s',
    async (point) => {
      let armed = true
      const { clock, db, inbox } = await open({
        at: (visited) => {
          if (armed && visited === point) throw new Error('died')
        },
      })
      const work = async (tx: { add(table: string, row: unknown): string }): Promise<['done']> => {
        tx.add('effects', 'm1')
        return ['done']
      }
      await expect(clock.run(inbox.run([message], 'each', work))).rejects.toThrow('died')
      expect(db.rows('effects')).toEqual([])
      armed = false
      expect(await clock.run(inbox.run([message], 'each', work))).toEqual(['committed'])
    },
  )

  it('is busy when another transaction holds the id for too long', async () => {
    const { clock, inbox } = await open(noCrashes, 200)
    let finish = (): void => undefined
    const first = inbox.run([message], 'each', () => {
      return new Promise((resolve) => (finish = () => resolve(['done'])))
    })
    await clock.settle()
    const second = inbox.run([message], 'each', () => Promise.reject(new Error('ran twice')))
    await clock.advance(200)
    expect(await second).toEqual(['busy'])
    finish()
    expect(await clock.run(first)).toEqual(['committed'])
    expect(clock.timers).toBe(0)
  })

  it('takes the second of two equal ones in a batch for busy when the first failed', async () => {
    const { clock, inbox } = await open()
    const results = inbox.run([message, message], 'batch', async () => ['failed'])
    expect(await clock.run(results)).toEqual(['failed', 'busy'])
  })

  it('refuses work that does not answer for every message, and keeps nothing of it', async () => {
    const { clock, inbox } = await open()
    const messages = [message, { ...message, id: 'm2' }]
    const short = inbox.run(messages, 'batch', async () => ['done'])
    await expect(clock.run(short)).rejects.toThrow(/2 results, one for each message/)
    const again = inbox.run(messages, 'batch', async () => ['done', 'done'])
    expect(await clock.run(again)).toEqual(['committed', 'committed'])
  })

  it('hands out a transaction that ends with the run', async () => {
    const { clock, inbox } = await open()
    let kept: { get(table: string, key: string): unknown } | null = null
    await clock.run(
      inbox.run([message], 'each', async (tx) => {
        kept = tx
        return ['done']
      }),
    )
    expect(() => kept?.get('t', 'a')).toThrow(/has ended/)
  })

  it('forgets while it is used what is older than its retention, and nothing that is kept', async () => {
    const { clock, db } = await open()
    const inbox = memoryInbox({ database: db, retentionMs: 3_600_000 })
    const { signal } = new AbortController()
    await clock.run(inbox.open({ clock, crash: noCrashes, emit: silent, signal }))
    const take = (id: string) =>
      clock.run(inbox.run([{ ...message, id }], 'each', async () => ['done']))
    await take('old')
    await clock.run(inbox.keep(message.consumer, ['dead']))
    await clock.run(inbox.attempts.started(message.consumer, 'old'))
    await clock.advance(3_500_000)
    await take('young')
    expect(db.rows('holdfast_inbox')).toHaveLength(3)
    await clock.advance(200_000)
    await take('new')
    const left = db.rows('holdfast_inbox').map(([, one]) => (one as { id: string }).id)
    expect(left).toEqual(['dead', 'young', 'new'])
    expect(db.rows('holdfast_attempts')).toEqual([])
    expect(() => memoryInbox({ retentionMs: 5 })).toThrow(/retentionMs: got 5/)
    expect(clock.timers).toBe(0)
  })

  it('waits with what is to be kept for whoever handles a copy of it, and gives up by name', async () => {
    const { clock, db, inbox } = await open(noCrashes, 200)
    let finish: () => void = () => undefined
    const working = new Promise<void>((resolve) => (finish = resolve))
    const first = inbox.run([message], 'each', async () => {
      await working
      return ['done']
    })
    await clock.advance(10)
    const busy = inbox.keep(message.consumer, [message.id])
    await expect(clock.run(busy)).rejects.toMatchObject({ code: 'storage-busy' })
    const keeping = inbox.keep(message.consumer, [message.id])
    finish()
    expect(await clock.run(first)).toEqual(['committed'])
    await clock.run(keeping)
    expect(db.rows('holdfast_inbox').map(([, one]) => one)).toMatchObject([{ kept: true }])
  })

  it('commits outbox rows of the handler with its effect, or neither', async () => {
    const { clock, inbox, outbox } = await open()
    const run = (id: string, result: 'done' | 'failed') =>
      inbox.run([{ ...message, id }], 'each', async (tx) => {
        await outbox.append(tx, [row(id)])
        return [result]
      })
    await clock.run(run('kept', 'done'))
    await clock.run(run('undone', 'failed'))
    const { leases } = await clock.run(outbox.lease('one', 64, 60_000))
    const read = await clock.run(outbox.read(leases, 9, nothing))
    expect(read.map(({ envelope: { body } }) => String(body))).toEqual(['kept'])
  })

  it('ends waiting runs when it is closed, and refuses new ones', async () => {
    const { clock, inbox } = await open()
    let finish = (): void => undefined
    const first = inbox.run([message], 'each', () => {
      return new Promise((resolve) => (finish = () => resolve(['done'])))
    })
    await clock.settle()
    const second = inbox.run([message], 'each', async () => ['done'])
    await clock.settle()
    await inbox.close()
    await inbox.close()
    expect(await second).toEqual(['busy'])
    finish()
    expect(await clock.run(first)).toEqual(['committed'])
    await expect(inbox.run([message], 'each', async () => ['done'])).rejects.toThrow(ClosedError)
    await expect(inbox.attempts.started('c', 'm')).rejects.toThrow(ClosedError)
    expect(clock.timers).toBe(0)
  })
})
