/**
 * A process that copies a topic into another one in transactions, and stops itself, once, when a request of
 * a certain kind is about to be written. It says on its output what it does; it ends when its input does.
 */
import { Connection } from '@platformatic/kafka'

import { kafka } from '../../../adapters/kafka/index.ts'
import { ReliableConsumer, topic } from '../../../src/index.ts'

/** What the process is told, as JSON in its first argument. */
export interface ChildTask {
  readonly brokers: readonly string[]
  readonly source: string
  readonly target: string
  readonly group: string
  readonly sessionTimeoutMs: number
  /** Kafka's number of the request; `null`: none. */
  readonly stopAt: number | null
}

const task = JSON.parse(process.argv[2] ?? '{}') as ChildTask
const say = (text: string): void => void process.stdout.write(`${text}\n`)

if (task.stopAt !== null) {
  let isStopped = false
  const send = Connection.prototype.send
  Connection.prototype.send = function sendOrStop(this: Connection, ...args: never) {
    const [key] = args as unknown as [number]
    if (key === task.stopAt && !isStopped) {
      isStopped = true
      say('stopping')
      process.kill(process.pid, 'SIGSTOP')
    }
    return (send as (...given: unknown[]) => unknown).apply(this, args)
  } as Connection['send']
}

const { brokers, sessionTimeoutMs, group } = task
const source = topic<string>(task.source, { ordering: 'partition' })
const target = topic<string>(task.target)
const consumer = new ReliableConsumer({
  broker: kafka({ brokers, sessionTimeoutMs, driver: 'platformatic', replication: 1 }),
  topic: source,
  group,
  atomic: true,
  from: 'earliest',
  transactionSize: 4,
  on: (event) => {
    if (event.type === 'warning') say(`warning ${event.code}: ${event.message}`)
  },
  handler: async (payload, context) => {
    await context.publish(target, `${payload} by a`)
  },
})
await consumer.start()
say('started')
process.stdin.on('end', () => {
  void consumer.close().then(() => process.exit(0))
})
process.stdin.resume()
