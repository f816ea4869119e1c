/** Consumes until it is told to stop, and writes down what it handles. */
import { appendFileSync, readFileSync } from 'node:fs'
import { setTimeout as wait } from 'node:timers/promises'

import { kafka } from '../../../adapters/kafka/index.ts'
import { ReliableConsumer } from '../../../src/consume/consumer.ts'
import type { AttemptStore } from '../../../src/contract/store.ts'
import { topic } from '../../../src/contract/topic.ts'
import { constant } from '../../../src/policy/backoff.ts'
import { contentHash, History } from '../../conformance/checker/history.ts'
import type { Item, MemberTask } from './member-task.ts'

const DRAIN_MS = 20_000
const FOR_EVER_MS = 2 ** 30

const task = JSON.parse(process.argv[2] ?? 'null') as MemberTask
const { group } = task
const history = new History(task.history, task.topic, task.proc)
const items = topic<Item>(task.topic, { key: ({ key }) => key, ordering: task.ordering })

/** Kafka counts no deliveries: starts that may have killed their process are counted in a file. */
function startsIn(file: string): AttemptStore {
  return {
    started: async (name, id) => {
      appendFileSync(file, `+ ${name} ${id}\n`)
      const lines = readFileSync(file, 'utf8').split('\n')
      const since = lines.lastIndexOf(`- ${name} ${id}`) + 1
      return lines.slice(since).filter((line) => line === `+ ${name} ${id}`).length
    },
    finished: async (name, id) => appendFileSync(file, `- ${name} ${id}\n`),
  }
}

const mine = (facts: { msgId: string; delivery: string }) => ({ ...facts, group })

const consumer = new ReliableConsumer({
  broker: kafka({ brokers: task.brokers, sessionTimeoutMs: task.sessionTimeoutMs }),
  topic: items,
  group,
  topics: {
    [task.topic]: { groups: [group], partitions: task.partitions, retryLevelsMs: [1_000] },
  },
  concurrency: task.concurrency,
  prefetch: { messages: task.prefetch },
  handlerTimeoutMs: FOR_EVER_MS,
  retry: { attempts: task.attempts, backoff: constant(20) },
  ...(task.starts === null ? {} : { attempts: startsIn(task.starts) }),
  logging: 'silent',
  on: (event) => {
    if (event.type === 'source.lost') history.write('source_lost', 'ok', { group })
    if (event.type !== 'message.dead') return
    const { id, reason } = event
    history.write('dlq_seen', 'ok', { msgId: `${id}`, group, reason })
  },
  handler,
})

let deliveries = 0

async function handler(
  item: Item,
  { id, attempt, redelivered }: { id: string | null; attempt: number; redelivered: string },
): Promise<void> {
  const body = Buffer.from(JSON.stringify(item))
  const hash = contentHash({ body, key: Buffer.from(item.key), headers: [] })
  const facts = { ...mine({ msgId: `${id}`, delivery: String(deliveries++) }), attempt, hash }
  history.write('deliver', 'ok', { ...facts, redelivered: redelivered !== 'no' })
  if (id === task.killer) process.kill(process.pid, 'SIGKILL')
  if (task.stuck.includes(`${id}`)) await wait(FOR_EVER_MS, undefined, { ref: false })
  else if (task.handlerMs > 0) await wait(task.handlerMs)
  history.write('effect', 'ok', facts)
  history.write('settle', 'ok', { ...facts, outcome: 'ack' })
}

/** It goes with its parent, and ends by itself when nothing was left open. */
const orphaned = (): void => process.exit(1)
process.once('disconnect', orphaned)
await consumer.start()
history.write('lib_metric', 'ok', { name: 'started', value: 1 })
await new Promise((resolve) => process.once('message', resolve))
await consumer.drain({ timeoutMs: DRAIN_MS })
history.write('process_end', 'ok')
process.off('disconnect', orphaned)
process.disconnect?.()
