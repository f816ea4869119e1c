import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { spawn, type ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

import { afterEach, beforeAll, describe, expect, it } from 'vitest'

import { kafka } from '../../../adapters/kafka/index.ts'
import { ReliableConsumer, topic } from '../../../src/index.ts'
import { until } from '../../brokers/handshake.ts'
import { readAll } from '../../brokers/kafka-read.ts'
import { createTopic, plainKafka } from '../../brokers/kafka-topics.ts'
import { sharedKafka } from '../../brokers/shared-kafka.ts'
import type { ChildTask } from './atomic-child.ts'

const SESSION_MS = 6_000
const LIMIT_MS = 90_000
/** Kafka's numbers of what a transaction consists of. */
const steps = { produce: 0, addOffsets: 25, commitOffsets: 28, end: 26 } as const

let brokers: string[] = []
const ends: (() => Promise<unknown>)[] = []

beforeAll(async () => {
  brokers = [(await sharedKafka()).broker]
}, 240_000)

afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end()
})

/** A consumer in a process of its own, which can be stopped and killed. */
class Member {
  readonly said: string[] = []
  readonly #process: ChildProcess

  constructor(task: ChildTask) {
    const script = fileURLToPath(new URL('./atomic-child.ts', import.meta.url))
    this.#process = spawn(process.execPath, [script, JSON.stringify(task)], {
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    for (const output of [this.#process.stdout, this.#process.stderr]) {
      createInterface({ input: output! }).on('line', (line) => this.said.push(line))
    }
    ends.push(() => this.kill())
  }

  async says(text: string): Promise<void> {
    await until(
      `the process to say "${text}"`,
      async () => this.said.some((line) => line.includes(text)),
      LIMIT_MS,
    ).catch((error: unknown) => {
      throw new Error(`${String(error)}: ${this.said.join('\n')}`)
    })
  }

  goOn(): void {
    this.#process.kill('SIGCONT')
  }

  async kill(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    const gone = new Promise((resolve) => this.#process.once('exit', resolve))
    this.#process.kill('SIGKILL')
    await gone
  }
}

/** A topic that is copied into another by a group. */
class Place {
  readonly task: Omit<ChildTask, 'stopAt'>
  readonly #sent: string[] = []

  private constructor(task: Omit<ChildTask, 'stopAt'>) {
    this.task = task
  }

  static async make(): Promise<Place> {
    const name = randomBytes(4).toString('hex')
    const [source, target] = [`from-${name}`, `to-${name}`]
    await createTopic(brokers, source)
    await createTopic(brokers, target, { partitions: 2 })
    return new Place({ brokers, source, target, group: 'copy', sessionTimeoutMs: SESSION_MS })
  }

  async send(count: number): Promise<void> {
    const producer = plainKafka(brokers).producer()
    await producer.connect()
    const texts = Array.from({ length: count }, (_, n) => String(this.#sent.length + n))
    this.#sent.push(...texts)
    const messages = texts.map((text) => ({ value: JSON.stringify(text) }))
    await producer.send({ topic: this.task.source, messages })
    await producer.disconnect()
  }

  member(stopAt: number | null): Member {
    return new Member({ ...this.task, stopAt })
  }

  /** The same in this process. */
  async takeOver(): Promise<void> {
    const { source, target, group } = this.task
    const to = topic<string>(target)
    const consumer = new ReliableConsumer({
      broker: kafka({
        brokers,
        sessionTimeoutMs: SESSION_MS,
        driver: 'platformatic',
        replication: 1,
      }),
      topic: topic<string>(source, { ordering: 'partition' }),
      group,
      atomic: true,
      from: 'earliest',
      handler: async (payload, context) => {
        await context.publish(to, `${payload} by b`)
      },
    })
    await consumer.start()
    ends.push(() => consumer.close())
  }

  /** What is committed in the target, without who did it, in order. */
  async copied(): Promise<string[]> {
    const records = await readAll(brokers, this.task.target)
    const texts = records.map(({ value }) => JSON.parse(String(value)) as string)
    return texts.map((text) => text.split(' ')[0] as string).sort(byNumber)
  }

  async isDone(): Promise<void> {
    const wanted = this.#sent.toSorted(byNumber)
    let found: string[] = []
    await until(
      'everything to be copied',
      async () => {
        found = await this.copied()
        return found.length >= wanted.length
      },
      LIMIT_MS,
    ).catch(() => undefined)
    assert.deepEqual(found, wanted)
  }
}

function byNumber(one: string, other: string): number {
  return Number(one) - Number(other)
}

describe('reading, writing and committing in one transaction', () => {
  for (const [step, stopAt] of Object.entries(steps)) {
    it(`happens once although a member stands still before ${step} and goes on when it is replaced`, async () => {
      const place = await Place.make()
      await place.send(20)
      const zombie = place.member(stopAt)
      await zombie.says('stopping')
      const before = await place.copied()
      expect(before, 'what is not committed was read').toEqual([])
      await place.takeOver()
      // Where its offsets are not pending yet, its successor is through before it wakes up.
      if (stopAt !== steps.end) await place.isDone()
      zombie.goOn()
      await place.isDone()
      await place.send(5)
      await place.isDone()
      await zombie.kill()
      await place.send(5)
      await place.isDone()
      if (stopAt !== steps.end) expect(zombie.said.join()).toContain('kafka.transaction-aborted')
    })

    it(`happens once although a member is killed before ${step}`, async () => {
      const place = await Place.make()
      await place.send(20)
      const killed = place.member(stopAt)
      await killed.says('stopping')
      await killed.kill()
      expect(await place.copied(), 'what is not committed was read').toEqual([])
      await place.takeOver()
      await place.isDone()
    })
  }
})
