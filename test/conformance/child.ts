/**
 * The other process of the cases that need one. Started with one JSON argument, a `Task`; ends when
 * its parent goes away. Compiled with the package, since Node 20 runs no TypeScript.
 */
import { setTimeout as wait } from 'node:timers/promises'

import type { Broker, Delivery } from '../../src/contract/broker.ts'
import { systemClock, systemRandom } from '../../src/contract/clock.ts'
import { noCrashes } from '../../src/contract/crash-points.ts'
import { silent } from '../../src/contract/events.ts'
import { topic } from '../../src/contract/topic.ts'
import { ReliableConsumer } from '../../src/consume/consumer.ts'
import { ReliablePublisher } from '../../src/publish/publisher.ts'
import { isTask, type Item, type Task } from './broker/processes/task.ts'
import { contentHash, History } from './checker/history.ts'

const DEADLINE_MS = 60_000

async function connect({ broker: { module, name, options } }: Task): Promise<Broker> {
  const door = (await import(module)) as Record<string, unknown>
  const make = door[name]
  if (typeof make !== 'function') throw new Error(`${module} exports no function ${name}`)
  return (await make(options)) as Broker
}

/** SIGKILL to itself: nothing runs after it, no handler, no finally. */
function die(): Promise<never> {
  process.kill(process.pid, 'SIGKILL')
  return new Promise(() => undefined)
}

/** Finishes the first deliveries, waits until the broker has it, and dies. Drives the contract itself. */
async function finishAndDie(task: Task & { role: 'finish' }, history: History): Promise<void> {
  const broker = await connect(task)
  const signal = new AbortController().signal
  const { ordering } = await broker.open({
    clock: systemClock,
    random: systemRandom,
    crash: noCrashes,
    emit: silent,
    signal,
  })
  const got: Delivery[] = []
  const receiver = await broker.receive(
    {
      topics: [task.topic],
      group: task.group,
      ordering: ordering.includes('none') ? 'none' : ordering[0]!,
      from: 'now',
      maxHeld: { messages: task.count, bytes: 1_000_000 },
    },
    {
      deliver: (_, batch) => void got.push(...batch),
      revoking: () => Promise.resolve(),
      lost: () => undefined,
      ended: () => undefined,
    },
  )
  while (got.length < task.count) await wait(5)
  // What comes once these are settled stays unfinished.
  const mine = got.slice(0, task.count)
  for (const { envelope } of mine) note(history, 'deliver', task.group, envelope.id)
  for (const delivery of mine) delivery.ack()
  await receiver.flush(systemClock.now() + DEADLINE_MS)
  for (const { envelope } of mine) note(history, 'settle', task.group, envelope.id)
  await die()
}

function note(history: History, op: 'deliver' | 'settle', group: string, id: string | null): void {
  history.write(op, 'ok', { group, msgId: `${id}`, delivery: `${id}`, outcome: 'ack' })
}

function itemsOf({ topic: name }: Task): ReturnType<typeof topic<Item>> {
  return topic<Item>(name, { key: ({ key }) => key })
}

/** Publishes its items, insisting on each key's order, and ends. */
async function publish(task: Task & { role: 'publish' }, history: History): Promise<void> {
  const items = itemsOf(task)
  const topics = { [task.topic]: { groups: [task.group], partitions: 4 } }
  const publisher = new ReliablePublisher({
    broker: await connect(task),
    topics,
    logging: 'silent',
  })
  const publishOne = async (item: Item): Promise<void> => {
    const { key, n } = item
    const msgId = `${task.proc}-${key}-${n}`
    const facts = { msgId, producer: task.proc, key, n, hash: itemHash(item) }
    history.write('publish', 'invoke', facts)
    const options = { id: msgId, headers: { producer: task.proc }, deadlineMs: DEADLINE_MS }
    await publisher.publish(items, item, options)
    history.write('publish', 'ok', facts)
  }
  for (let n = 0; n < task.each; n++) {
    await Promise.all(task.keys.map((key) => publishOne({ key, n })))
  }
  await publisher.close({ timeoutMs: DEADLINE_MS })
}

/** Handles until told to stop, or until it has handled `dieAfter` messages; then it dies in the middle. */
async function consume(task: Task & { role: 'consume' }, history: History): Promise<void> {
  const items = itemsOf(task)
  let handled = 0
  const consumer = new ReliableConsumer({
    broker: await connect(task),
    topic: items,
    group: task.group,
    topics: { [task.topic]: { partitions: 4 } },
    logging: 'silent',
    handler: async (item, { id, attempt, redelivered, group }) => {
      const delivery = `${id}#${handled++}`
      const facts = { msgId: `${id}`, group, delivery, attempt, hash: itemHash(item) }
      history.write('deliver', 'ok', { ...facts, redelivered: redelivered !== 'no' })
      if (handled === task.dieAfter) await die()
      await wait(1)
      history.write('effect', 'ok', facts)
      history.write('settle', 'ok', { ...facts, outcome: 'ack' })
    },
  })
  await consumer.start()
  await new Promise<void>((resolve) => process.once('message', () => resolve()))
  await consumer.drain({ timeoutMs: DEADLINE_MS })
}

function itemHash(item: Item): string {
  const body = Buffer.from(JSON.stringify(item))
  return contentHash({ body, key: Buffer.from(item.key), headers: [] })
}

async function main(): Promise<void> {
  const task: unknown = JSON.parse(process.argv[2] ?? 'null')
  if (!isTask(task)) throw new Error('usage: node child.js <task as JSON>')
  // Nobody is left behind: with the parent gone, the channel closes.
  const orphaned = (): void => process.exit(1)
  process.once('disconnect', orphaned)
  const history = new History(task.history, 'conformance', task.proc)
  if (task.role === 'finish') await finishAndDie(task, history)
  else if (task.role === 'publish') await publish(task, history)
  else await consume(task, history)
  history.write('process_end', 'ok')
  // From here on it ends by itself, which shows that nothing was left open.
  process.off('disconnect', orphaned)
  process.disconnect?.()
}

await main()
