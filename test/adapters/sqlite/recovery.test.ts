import { afterEach, describe, expect, it, vi } from 'vitest'

import { sqlite } from '../../../adapters/sqlite/index.ts'
import { Prepared } from '../../../adapters/sqlite/prepared.ts'
import { Recovery } from '../../../adapters/sqlite/recovery.ts'
import { WriterHealth } from '../../../adapters/sqlite/writer-health.ts'
import { ReliablePublisher } from '../../../src/publish/publisher.ts'
import { topic } from '../../../src/contract/topic.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'
import { OpenedFiles } from './opened-files.ts'
import { rejection, until } from './stage.ts'

const files = new OpenedFiles()

afterEach(() => void vi.restoreAllMocks())

const Orders = topic<{ readonly n: number }>('orders')

interface Publishing {
  readonly publisher: ReliablePublisher
  readonly states: string[]
}

/** A publisher that has a broker file of its own: nobody but its messages begins transactions on it. */
async function publishingTo(file: string): Promise<Publishing> {
  const states: string[] = []
  const publisher = new ReliablePublisher({
    broker: sqlite({ file }),
    topics: { orders: { groups: ['billing'] } },
    logging: 'silent',
    on: (event) => {
      if (event.type === 'broker.state') states.push(event.state.status)
    },
  })
  files.afterwards(() => publisher.close({ timeoutMs: 1_000 }))
  await publisher.publish(Orders, { n: 0 })
  return { publisher, states }
}

/** Every statement of that text fails as SQLite would, until the returned function is called. */
function failing(statement: string, code: string, errcode: number): () => void {
  const { run } = Prepared.prototype
  const spy = vi.spyOn(Prepared.prototype, 'run').mockImplementation(function (
    this: Prepared,
    sql,
    ...params
  ) {
    if (sql !== statement) return run.call(this, sql, ...params)
    throw Object.assign(new Error(`${code} on purpose`), { code, errcode })
  })
  return () => spy.mockRestore()
}

describe('a publisher whose broker file could not be written for a while', () => {
  it.each([
    ['COMMIT', 'SQLITE_FULL', 13, 'storage-full'],
    ['COMMIT', 'SQLITE_IOERR', 10, 'commit-unknown'],
    ['BEGIN IMMEDIATE', 'SQLITE_READONLY', 8, 'storage-read-only'],
  ])(
    'publishes again after %s failed with %s, with nobody else at the file',
    async (statement, code, errcode, told) => {
      const { publisher, states } = await publishingTo(files.next())
      const mend = failing(statement, code, errcode)
      const failed = await rejection(publisher.publish(Orders, { n: 1 }, { deadlineMs: 500 }))
      expect([told, 'not-sent', 'timeout']).toContain(failed.code)
      expect(states.at(-1)).toBe('down')
      mend()
      const receipt = await publisher.publish(Orders, { n: 2 }, { deadlineMs: 10_000 })
      expect(receipt.via).toBe('broker')
      expect(states.at(-1)).toBe('up')
    },
  )

  it('publishes again when another process had locked it and nobody waited any more', async () => {
    const file = files.next()
    const { publisher, states } = await publishingTo(file)
    const database = await files.database(file, { busyMs: 1_500 })
    const other = files.outside(file)
    other.exec('BEGIN IMMEDIATE')
    expect((await rejection(database.transaction(() => 1))).code).toBe('storage-busy')
    expect(states.at(-1)).toBe('blocked')
    other.exec('ROLLBACK')
    await publisher.publish(Orders, { n: 1 }, { deadlineMs: 10_000 })
    await until(() => states.at(-1) === 'up', 'up')
  })
})

describe('trying to write a file again', () => {
  it('happens after 1 s, then less and less often, at least every 10 s, until it works', async () => {
    const clock = new VirtualClock()
    const health = new WriterHealth()
    const tries: number[] = []
    const recovery = new Recovery(health, clock, async () => {
      tries.push(clock.now())
      throw new Error('still full')
    })
    const downAt = clock.now()
    health.down('full')
    await clock.advance(46_000)
    expect(tries.map((at) => at - downAt)).toEqual([
      1_000, 3_000, 7_000, 15_000, 25_000, 35_000, 45_000,
    ])
    health.up()
    await clock.advance(60_000)
    expect([tries.length, clock.timers]).toEqual([7, 0])
    recovery.stop()
  })

  it('is not started over by a file that is up for a moment only', async () => {
    const clock = new VirtualClock()
    const health = new WriterHealth()
    let tries = 0
    const recovery = new Recovery(health, clock, async () => {
      tries++
      health.up()
      health.down('full')
    })
    health.down('full')
    await clock.advance(45_500)
    expect(tries).toBe(7)
    recovery.stop()
    expect(clock.timers).toBe(0)
    await clock.advance(60_000)
    expect(tries).toBe(7)
  })
})

it('closing a file that is down ends its tries', async () => {
  const stop = vi.spyOn(Recovery.prototype, 'stop')
  const { publisher } = await publishingTo(files.next())
  failing('COMMIT', 'SQLITE_FULL', 13)
  await rejection(publisher.publish(Orders, { n: 1 }, { deadlineMs: 300 }))
  await publisher.close({ timeoutMs: 1_000 })
  expect(stop).toHaveBeenCalledTimes(1)
})
