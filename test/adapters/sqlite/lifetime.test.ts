import { existsSync, statSync } from 'node:fs'
import { describe, expect, it } from 'vitest'

import { openDatabase, sqlite, sqliteInbox, sqliteOutbox } from '../../../adapters/sqlite/index.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'
import { OpenedFiles } from './opened-files.ts'
import { context, envelopes, openBroker, rejection, send, soon, take, until } from './stage.ts'

const files = new OpenedFiles()
const walBytes = (file: string): number =>
  existsSync(`${file}-wal`) ? statSync(`${file}-wal`).size : 0

describe('the write-ahead log', () => {
  it('stays small while a receiver and an outbox watch the file', async () => {
    const file = files.next()
    const broker = await openBroker({ file, pollMs: 1 })
    const outbox = sqliteOutbox({ file, pollMs: 1 })
    await outbox.open(context())
    outbox.onAppended(() => void outbox.stats())
    const taker = await take(broker, (delivery) => delivery.ack())
    const sender = broker.sender('publish')
    const body = new Uint8Array(1_000)
    for (let batch = 0; batch < 60; batch++) {
      const ids = Array.from({ length: 200 }, (_, n) => `${batch}.${n}`)
      await send(sender, envelopes(ids, { key: null, body }))
    }
    await until(() => taker.deliveries.length === 12_000, 'all messages')
    // 12 MB went through it; a reader that stayed in a transaction would have kept all of them.
    expect(walBytes(file)).toBeLessThan(8_000_000)
    await broker.close(soon())
    await outbox.close()
  })

  it('is folded into the file by the last one to leave', async () => {
    const file = files.next()
    const broker = await openBroker({ file })
    const database = await openDatabase({ file })
    await send(broker.sender('publish'), envelopes(['a']))
    await broker.close(soon())
    expect(walBytes(file)).toBeGreaterThan(0)
    await database.close()
    expect(walBytes(file)).toBe(0)
  })
})

describe('closing', () => {
  it('leaves no timer behind, and happens once', async () => {
    const file = files.next()
    const clock = new VirtualClock()
    const stop = clock.auto()
    const around = { ...context(), clock }
    const broker = sqlite({ file })
    await broker.open(around)
    const topic = { name: 'orders', groups: ['billing'], partitions: null, ordering: 'key' }
    await broker.provision({ topics: [{ ...topic, retryLevelsMs: [] } as never] }, 'create')
    const outbox = sqliteOutbox({ file })
    const inbox = sqliteInbox({ file })
    const database = await openDatabase({ file, clock })
    await outbox.open(around)
    await inbox.open(around)
    const stopListening = outbox.onAppended(() => undefined)
    const taker = await take(broker)
    const sender = broker.sender('publish')
    await new Promise<void>((resolve) => {
      sender.send(envelopes(['a', 'b']), clock.now() + 1_000, (_, to) => to === 2 && resolve())
    })
    await inbox.run([{ consumer: 'c', id: 'm' }], 'each', async () => ['done'])
    await database.transaction(() => 1)
    expect(clock.timers).toBeGreaterThan(0)
    stopListening()
    const deadline = (): number => clock.now() + 1_000
    await Promise.all([taker.receiver.close(deadline()), taker.receiver.close(deadline())])
    await Promise.all([broker.close(deadline()), broker.close(deadline())])
    await Promise.all([outbox.close(), outbox.close(), inbox.close(), inbox.close()])
    await Promise.all([database.close(), database.close()])
    await clock.settle()
    stop()
    expect(clock.timers).toBe(0)
    expect(taker.ends).toEqual([undefined])
  })

  it('refuses by name whatever comes after it', async () => {
    const file = files.next()
    const database = await openDatabase({ file })
    const outbox = sqliteOutbox({ file })
    const inbox = sqliteInbox({ file })
    await outbox.open(context())
    await inbox.open(context())
    await Promise.all([database.close(), outbox.close(), inbox.close()])
    const run = inbox.run.bind(inbox, [{ consumer: 'c', id: 'm' }], 'each', async () => ['done'])
    for (const call of [
      () => database.transaction(() => 1),
      () => outbox.appendAlone([]),
      () => outbox.stats(),
      () => outbox.open(context()),
      () => inbox.open(context()),
      () => run(),
    ]) {
      expect((await rejection(Promise.resolve().then(async () => call()))).code).toBe('closed')
    }
    const broker = await openBroker({ file })
    await broker.close(soon())
    expect(() => broker.sender('publish')).toThrow(/broker is closed/)
  })

  it('ends with the transactions under way, and answers those that wait', async () => {
    const file = files.next()
    const database = await openDatabase({ file })
    await database.transaction((tx) => {
      tx.run('CREATE TABLE t (x)')
    })
    let goOn!: () => void
    const gate = new Promise<void>((resolve) => (goOn = resolve))
    let begun = false
    const first = database.transaction(async (tx) => {
      begun = true
      await gate
      tx.run("INSERT INTO t VALUES ('first')")
    })
    const waiting = [1, 2, 3].map((n) => database.transaction(() => n))
    const others = Promise.allSettled(waiting)
    await until(() => begun, 'the first transaction')
    const closed = database.close()
    goOn()
    await first
    await closed
    for (const one of await others) {
      if (one.status === 'rejected') expect(one.reason).toMatchObject({ code: 'closed' })
    }
    const again = await openDatabase({ file })
    expect(await again.transaction((tx) => tx.all('SELECT x FROM t'))).toEqual([{ x: 'first' }])
    await again.close()
  })
})
