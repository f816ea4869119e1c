import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'

import { topic, type HoldfastEvent } from 'holdfast'

import { KeyedParcels, QUEUE, NAME, type FaultStage, type Parcel } from './fault-stage.ts'
import { Writer } from './writer.ts'

const KEYS = 50

/** A key out of a few, so that many messages have the same. */
function someKey(): string {
  return `k${Math.floor(Math.random() * KEYS)}`
}

/** R-P1: every publish is confirmed and stored, although the connection is cut again and again. */
export async function connectionCut(
  stage: FaultStage,
  { messages, everyMs, cuts }: { messages: number; everyMs: number; cuts: number },
): Promise<void> {
  const writer = new Writer(stage, 'p', stage.publisher({}, { buffer: { messages: 5_000 } }))
  // A fast machine is through with that many before the last cut.
  const isOver = (): boolean => writer.begun >= messages && stage.book.faults >= cuts
  await stage.resetting(everyMs, () => writer.sendUntil(isOver, 2_000))
  assert.deepEqual([...writer.codes], [])
  await stage.judge({ demands: { published: messages, faults: cuts } })
}

/** Many callers, each waiting for its own message: nobody is told less than the truth, nobody waits for ever. */
export async function manyCallers(
  stage: FaultStage,
  { callers, forMs, everyMs }: { callers: number; forMs: number; everyMs: number },
): Promise<void> {
  const writer = new Writer(stage, 'p', stage.publisher())
  const endAt = performance.now() + forMs
  await stage.resetting(everyMs, () => writer.sendUntil(() => performance.now() > endAt, callers))
  assert.deepEqual([...writer.codes], [])
  const faults = Math.floor(forMs / everyMs / 2)
  await stage.judge({ demands: { published: callers * 10, faults } })
}

/** As above, and messages of one key are stored in the order in which they were published. */
export async function keyedCallers(
  stage: FaultStage,
  { forMs, everyMs }: { forMs: number; everyMs: number },
): Promise<void> {
  const writer = new Writer(stage, 'p', stage.publisher(), KeyedParcels)
  const endAt = performance.now() + forMs
  await stage.resetting(everyMs, () =>
    writer.sendUntil(() => performance.now() > endAt, 64, someKey),
  )
  assert.deepEqual([...writer.codes], [])
  const faults = Math.floor(forMs / everyMs / 2)
  await stage.judge({ ordered: true, demands: { published: 500, faults } })
}

/** R-P20: confirms are lost on the way, the messages are not. */
export async function confirmsLost(stage: FaultStage, messages: number): Promise<void> {
  const publisher = stage.publisher({ confirmTimeoutMs: 1_000 })
  const writer = new Writer(stage, 'p', publisher)
  await writer.send()
  const rule = stage.proxy.rule('basic.publish', { do: 'lose-confirm' }, 10)
  await writer.sendMany(messages, 100)
  for (let n = 0; n < rule.fired; n++) stage.book.fault('lost confirm')
  assert.deepEqual([...writer.codes], [])
  await stage.judge({ demands: { published: messages, faults: 10, duplicates: 10 } })
}

/** R-P7: one message without an exchange in a burst of good ones. */
export async function poisonInABurst(stage: FaultStage, good: number): Promise<void> {
  const publisher = stage.publisher({}, { topology: 'none' })
  await new Writer(stage, 'warm', publisher).send()
  const before = connectionsMade(stage)
  const writer = new Writer(stage, 'p', publisher)
  const poison = new Writer(stage, 'poison', publisher, topic<Parcel>('nowhere'))
  const all = Array.from({ length: good + 1 }, (_, n) =>
    n === Math.floor(good / 2) ? poison.send() : writer.send(),
  )
  await Promise.all(all)
  assert.deepEqual([...writer.codes], [])
  assert.deepEqual([...poison.codes.values()], ['unroutable'])
  stage.book.fault('channel closed by the broker')
  assert.ok(connectionsMade(stage) - before <= 8, 'connections were opened again and again')
  assert.ok(connectionsMade(stage) > before, 'the poison did no harm: the test shows nothing')
  await stage.judge({ demands: { published: good, refused: 1 } })
}

/** R-P2: messages that reach no queue, among those that do. */
export async function unroutableAmongGood(
  stage: FaultStage,
  { good, every }: { good: number; every: number },
): Promise<void> {
  const { channel } = await stage.plain()
  await channel.assertExchange('unbound', 'topic', { durable: true })
  const publisher = stage.publisher({}, { topology: 'none' })
  const writer = new Writer(stage, 'p', publisher)
  const stray = new Writer(stage, 'stray', publisher, topic<Parcel>('unbound'))
  const all: Promise<void>[] = []
  for (let n = 0; n < good; n++) {
    if (n % every === 0) all.push(stray.send())
    all.push(writer.send())
  }
  await Promise.all(all)
  assert.deepEqual([...writer.codes], [])
  assert.deepEqual([...new Set(stray.codes.values())], ['unroutable'])
  const refused = Math.ceil(good / every)
  assert.equal(stray.codes.size, refused)
  await stage.judge({ duplicates: 0, demands: { published: good, refused } })
}

/** R-P2: the binding is taken away in the middle of a burst: confirmed means stored all the same. */
export async function bindingTakenAway(stage: FaultStage): Promise<void> {
  const { channel } = await stage.plain()
  const writer = new Writer(stage, 'p', stage.publisher({}, { topology: 'none' }))
  let isOver = false
  const sending = writer.sendUntil(() => isOver, 64)
  await stage.soon(
    () => 'nothing was confirmed',
    () => stage.book.count('publish', 'ok') > 500,
  )
  await channel.unbindQueue(QUEUE, NAME, '#')
  stage.book.fault('unbound')
  await stage.soon(
    () => 'nothing was refused',
    () => writer.codes.size > 100,
  )
  isOver = true
  await sending
  assert.deepEqual([...new Set(writer.codes.values())], ['unroutable'])
  await stage.judge({ demands: { published: 500, refused: 100, faults: 1 } })
}

/** R-P4: a full queue that refuses, and is then drained. */
export async function queueFull(stage: FaultStage, messages: number): Promise<void> {
  await stage.node.management.put(`policies/${encodeURIComponent(stage.vhost.name)}/full`, {
    pattern: `^${QUEUE}$`,
    definition: { 'max-length': Math.floor(messages / 4) },
    'apply-to': 'queues',
  })
  const writer = new Writer(stage, 'p', stage.publisher())
  const nacks = (): number => stage.told((event) => isRetryOf(event, 'nacked'))
  // The queue hears of its policy some time later.
  const isOver = (): boolean => writer.begun >= messages && nacks() > 0
  const sending = writer.sendUntil(isOver, messages)
  await stage.soon(
    () => 'the queue was never full',
    () => nacks() > 0,
  )
  stage.book.fault('queue full')
  assert.ok(stage.book.open.length > 0, 'nothing waits although the queue is full')
  await stage.node.management.delete(`policies/${encodeURIComponent(stage.vhost.name)}/full`)
  await sending
  assert.deepEqual([...writer.codes], [])
  await stage.judge({ demands: { published: messages, faults: 1 } })
}

/** R-P13: an alarm blocks who publishes; memory stays as it is, and nothing is sent twice. */
export async function memoryAlarm(
  stage: FaultStage,
  { forMs, callers }: { forMs: number; callers: number },
): Promise<void> {
  const publisher = stage.publisher({ confirmTimeoutMs: 2_000 }, { buffer: { messages: 2_000 } })
  const writer = new Writer(stage, 'p', publisher)
  let isOver = false
  const sending = writer.sendUntil(() => isOver, callers)
  await stage.soon(
    () => 'nothing was confirmed',
    () => stage.book.count('publish', 'ok') > 500,
  )
  const clear = await stage.node.memoryAlarm()
  stage.defer(clear)
  await stage.soon(
    () => 'nobody was blocked',
    () => stage.told(isBlocked) > 0,
  )
  stage.book.fault('memory alarm')
  const before = { rss: process.memoryUsage().rss, confirmed: stage.book.count('publish', 'ok') }
  await sleep(forMs)
  const grown = (process.memoryUsage().rss - before.rss) / 1_048_576
  assert.ok(grown < 64, `${grown.toFixed(0)} MiB more while it was blocked`)
  await clear()
  await stage.soon(
    () => 'nothing was confirmed after the alarm',
    () => stage.book.count('publish', 'ok') > before.confirmed + 500,
  )
  isOver = true
  await sending
  assert.deepEqual([...writer.codes], [])
  await stage.judge({ duplicates: 0, demands: { published: 1_000, faults: 1 } })
}

/** The node dies under load, and comes back. */
export async function nodeKilled(
  stage: FaultStage,
  { kills, betweenMs }: { kills: number; betweenMs: number },
): Promise<void> {
  const writer = new Writer(stage, 'p', stage.publisher({ url: stage.vhost.url }), KeyedParcels)
  let isOver = false
  const sending = writer.sendUntil(() => isOver, 64, someKey)
  for (let n = 0; n < kills; n++) {
    const before = stage.book.count('publish', 'ok')
    await stage.soon(
      () => 'nothing is confirmed',
      () => stage.book.count('publish', 'ok') > before + 200,
    )
    await sleep(betweenMs)
    await stage.node.sync()
    await stage.node.kill()
    stage.book.fault('kill -9')
    await stage.node.start()
  }
  const before = stage.book.count('publish', 'ok')
  await stage.soon(
    () => 'nothing is confirmed after the last kill',
    () => stage.book.count('publish', 'ok') > before + 200,
  )
  isOver = true
  await sending
  assert.deepEqual([...writer.codes], [])
  await stage.judge({ ordered: true, demands: { published: 200 * kills, faults: kills } })
}

/** The node stands still for a while; connections stay open. */
export async function nodeFrozen(stage: FaultStage, forMs: number): Promise<void> {
  const options = { url: stage.vhost.url, confirmTimeoutMs: Math.max(1_000, forMs / 2) }
  const writer = new Writer(stage, 'p', stage.publisher(options), KeyedParcels)
  let isOver = false
  const sending = writer.sendUntil(() => isOver, 64, someKey)
  await stage.soon(
    () => 'nothing is confirmed',
    () => stage.book.count('publish', 'ok') > 500,
  )
  const goOn = await stage.node.pause()
  stage.defer(goOn)
  stage.book.fault('frozen')
  const before = stage.book.count('publish', 'ok')
  await sleep(forMs)
  const meanwhile = stage.book.count('publish', 'ok') - before
  assert.ok(meanwhile <= 64, `${meanwhile} were confirmed by a broker that stood still`)
  await goOn()
  await stage.soon(
    () => 'nothing is confirmed after that',
    () => stage.book.count('publish', 'ok') > before + 500,
  )
  isOver = true
  await sending
  assert.deepEqual([...writer.codes], [])
  await stage.judge({ ordered: true, demands: { published: 1_000, faults: 1 } })
}

function connectionsMade({ proxy }: FaultStage): number {
  return proxy.links.reduce((most, { id }) => Math.max(most, id), 0)
}

function isRetryOf(event: HoldfastEvent, code: string): boolean {
  return event.type === 'publish.retry' && (event.error as { code?: string }).code === code
}

function isBlocked(event: HoldfastEvent): boolean {
  return event.type === 'broker.state' && event.state.status === 'blocked'
}
