import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'

import { DEAD, GROUP, NAME, parcelOf, QUEUE, type FaultStage } from './fault-stage.ts'
import { Reader } from './reader.ts'
import { Writer } from './writer.ts'

/** What is in the queue before a consumer meets its faults. */
async function filled(stage: FaultStage, count: number): Promise<void> {
  const publisher = stage.publisher({ url: stage.vhost.url })
  await new Writer(stage, 'p', publisher).sendMany(count, 500)
  await publisher.close()
}

/** R-C8: a consumer that holds 100 dies, again and again; the last one finishes. */
export async function consumerKilled(
  stage: FaultStage,
  { messages, kills }: { messages: number; kills: number },
): Promise<void> {
  await filled(stage, messages)
  const handle = (): Promise<void> => sleep(10)
  for (let n = 0; n < kills; n++) {
    const reader = await Reader.start(stage, `victim-${n}`, { handle, prefetch: 100 })
    await stage.soon(
      () => 'it handled nothing',
      () => reader.done > 20,
    )
    await reader.kill()
    stage.book.fault('consumer killed')
  }
  const last = await Reader.start(stage, 'last')
  await stage.soon(
    () => `${last.done} were handled by the last one`,
    () => isEmpty(stage),
  )
  await last.drain()
  await stage.judge({ demands: { published: messages, faults: kills, killed: kills } })
}

/** R-C1: an operator closes every connection while handlers run; what they settle then is nobody else's. */
export async function staleTags(stage: FaultStage): Promise<void> {
  let isHeld = true
  const held: (() => void)[] = []
  const handle = (): Promise<void> | undefined =>
    isHeld ? new Promise((resolve) => held.push(resolve)) : undefined
  await filled(stage, 200)
  const reader = await Reader.start(stage, 'c', { handle, concurrency: 50, prefetch: 50 })
  await stage.soon(
    () => `${held.length} handlers run`,
    () => held.length === 50,
  )
  await stage.node.ctl('close_all_connections', '--vhost', stage.vhost.name, 'closed by a test')
  const lost = (): number => reader.events.filter(({ type }) => type === 'source.lost').length
  await stage.soon(
    () => 'it did not notice',
    () => lost() > 0,
  )
  stage.book.fault('connections closed')
  isHeld = false
  for (const letGo of held) letGo()
  await filledAgain(stage, 200)
  await stage.soon(
    () => `${reader.done} were handled`,
    () => isEmpty(stage),
  )
  assert.equal(lost(), 1, 'settling what was lost cost another channel')
  await reader.drain()
  await stage.judge({ demands: { published: 400, delivered: 400, faults: 1 } })
}

async function filledAgain(stage: FaultStage, count: number): Promise<void> {
  const publisher = stage.publisher({ url: stage.vhost.url })
  await new Writer(stage, 'q', publisher).sendMany(count, 500)
  await publisher.close()
}

/** R-C7, R-C8: a message whose handler never survives ends in the dead letters, not in the void. */
export async function deliveryLimit(stage: FaultStage, limit: number): Promise<void> {
  await filled(stage, 3)
  const handle = (_: unknown, signal: AbortSignal): Promise<void> =>
    new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
    })
  const reader = await Reader.start(stage, 'c', { handle })
  let crashes = 0
  const { channel } = await stage.plain()
  const dead = async (): Promise<number> => (await channel.checkQueue(DEAD)).messageCount
  for (;;) {
    await stage.soon(
      () => `${reader.started} were handed over after ${crashes} crashes`,
      async () => reader.started >= 3 * (crashes + 1) || (await dead()) === 3,
    )
    if ((await dead()) === 3) break
    assert.ok(crashes <= limit, `${crashes} crashes, and nothing is dead`)
    crashes++
    assert.ok(reader.proxy.reset() > 0, 'there was nothing to reset')
    stage.book.fault('crash')
  }
  assert.equal(crashes, limit + 1)
  await reader.kill()
  await stage.judge({ demands: { published: 3, dead: 3, faults: limit + 1 } })
}

/** Plain producers and consumers beside ours on one queue, while ours lose their connections. */
export async function mixedFleet(stage: FaultStage, each: number): Promise<void> {
  const { channel: plainOut } = await stage.plain()
  const { channel: plainIn } = await stage.plain()
  let plainGot = 0
  await plainIn.prefetch(20)
  await plainIn.consume(QUEUE, (message) => {
    if (message === null) return
    const facts = { msgId: parcelOf(message).id, group: GROUP, delivery: String(++plainGot) }
    stage.book.write('plain', 'deliver', 'ok', facts)
    setTimeout(() => {
      plainIn.ack(message)
      stage.book.write('plain', 'settle', 'ok', { ...facts, outcome: 'ack' })
    }, 5)
  })
  const reader = await Reader.start(stage, 'ours', { handle: () => sleep(5), prefetch: 20 })
  const writer = new Writer(stage, 'ours-out', stage.publisher())
  await Promise.all([
    writer.sendMany(each, 20),
    sendPlainly(stage, plainOut, each, () => cutBoth(stage, reader)),
  ])
  await stage.soon(
    () => 'the queue was not emptied',
    () => isEmpty(stage),
  )
  await reader.drain()
  assert.ok(plainGot > 0 && reader.done > 0, `plain got ${plainGot}, ours did ${reader.done}`)
  assert.deepEqual([...writer.codes], [])
  await stage.judge({ demands: { published: 2 * each, faults: 8 } })
}

/** Once each of them has a connection to lose, however fast the rest is. */
async function cutBoth(stage: FaultStage, reader: Reader): Promise<void> {
  for (const [name, proxy] of [
    ['reader', reader.proxy],
    ['writer', stage.proxy],
  ] as const) {
    await stage.soon(
      () => `the ${name} has no connection that could be cut`,
      () => proxy.reset() > 0,
    )
    stage.book.fault(`${name} cut`)
  }
}

/** As any other program would: half of them without an id. After each fifth of them `cut` is called. */
async function sendPlainly(
  stage: FaultStage,
  channel: Awaited<ReturnType<FaultStage['plain']>>['channel'],
  count: number,
  cut: () => Promise<void>,
): Promise<void> {
  for (let n = 0; n < count; n++) {
    if (n > 0 && n % Math.ceil(count / 5) === 0) await cut()
    const msgId = `plain--${n}`
    const facts = { msgId, producer: 'plain', key: '', n }
    stage.book.write('plain-out', 'publish', 'invoke', facts)
    const options = {
      persistent: true,
      contentType: 'application/json',
      ...(n % 2 === 0 ? {} : { messageId: msgId }),
    }
    const body = Buffer.from(JSON.stringify({ id: msgId, key: '' }))
    await new Promise<void>((resolve, reject) => {
      channel.publish(NAME, '', body, options, (error: unknown) =>
        error === null ? resolve() : reject(error as Error),
      )
    })
    stage.book.write('plain-out', 'publish', 'ok', facts)
  }
}

/** Neither waiting nor in the hands of a consumer, as far as the history knows. */
async function isEmpty(stage: FaultStage): Promise<boolean> {
  const finished = new Set<string>()
  const sent = new Set<string>()
  for (const { op, phase, msgId = '' } of stage.book.entries) {
    if (op === 'settle') finished.add(msgId)
    if (op === 'publish' && phase === 'ok') sent.add(msgId)
  }
  const { channel, connection } = await stage.plain()
  const dead = (await channel.checkQueue(DEAD)).messageCount
  await connection.close()
  return [...sent].filter((id) => !finished.has(id)).length <= dead
}
