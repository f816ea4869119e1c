import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

import { kafka } from '../../../adapters/kafka/index.ts'
import { topic, type Topic } from '../../../src/contract/topic.ts'
import { ReliablePublisher } from '../../../src/publish/publisher.ts'
import { until } from '../../brokers/handshake.ts'
import { check } from '../../conformance/checker/checker.ts'
import { contentHash, History, readHistory, type Entry } from '../../conformance/checker/history.ts'
import type { Expectations, Verdict } from '../../conformance/checker/verdict.ts'
import { Tail } from '../../process/rig/tail.ts'
import { residueOf, unfinished } from './ground.ts'
import { Member } from './member.ts'
import type { Item, MemberTask } from './member-task.ts'

const GROUP = 'herd'
const LIMIT_MS = 180_000
const SESSION_MS = 6_000

/** How a herd is to be. */
export interface HerdOptions {
  readonly brokers: readonly string[]
  /** Default 6. */
  readonly partitions?: number
  /** Default 'key'. */
  readonly ordering?: 'key' | 'none'
}

/** Consumers of one group in processes of their own, a publisher here, and the history of them all. */
export class Herd {
  readonly topicName: string = `herd-${randomBytes(4).toString('hex')}`
  readonly members: Member[] = []
  readonly #options: Required<HerdOptions>
  readonly #folder = mkdtempSync(join(tmpdir(), 'holdfast-herd-'))
  readonly #history: History
  readonly #tail: Tail
  readonly #items: Topic<Item>
  readonly #publisher: ReliablePublisher
  readonly #confirmed = new Set<string>()

  constructor({ brokers, partitions = 6, ordering = 'key' }: HerdOptions) {
    this.#options = { brokers, partitions, ordering }
    this.#history = new History(this.#file, this.topicName, 'herd')
    this.#tail = new Tail(this.#file)
    this.#items = topic<Item>(this.topicName, { key: ({ key }) => key, ordering })
    this.#publisher = new ReliablePublisher({
      broker: kafka({ brokers }),
      topics: { [this.topicName]: { groups: [GROUP], partitions, retryLevelsMs: [1_000] } },
      deadlineMs: 60_000,
      logging: 'silent',
    })
  }

  /** Kafka's name of the group. */
  get groupId(): string {
    return `${this.topicName}.${GROUP}`
  }

  /** Where members may count starts. */
  get startsFile(): string {
    return join(this.#folder, 'starts')
  }

  get #file(): string {
    return join(this.#folder, 'history.jsonl')
  }

  /** Starts one more consumer; resolves when it has started. */
  async member(given: Partial<MemberTask> = {}): Promise<Member> {
    const { brokers, partitions, ordering } = this.#options
    const proc = `member-${this.members.length}`
    const task: MemberTask = {
      ...{ proc, history: this.#file, brokers, topic: this.topicName, group: GROUP },
      ...{ partitions, ordering, concurrency: 16, prefetch: 512, sessionTimeoutMs: SESSION_MS },
      ...{ handlerMs: 0, stuck: [], killer: null, starts: null, attempts: 10, ...given },
    }
    const member = new Member(task)
    this.members.push(member)
    await this.#until(`${proc} to start`, () => {
      assert.ok(member.isAlive, `${proc} ended before it started`)
      return this.lines((entry) => entry.proc === proc && entry.name === 'started').length > 0
    })
    return member
  }

  /** Publishes `count` items over these keys, `atOnce` at a time; resolves when all are confirmed. */
  async publish(count: number, keys: readonly string[], atOnce: number = 64): Promise<void> {
    const numbers = new Map<string, number>()
    let next = 0
    const work = async (): Promise<void> => {
      for (let index = next++; index < count; index = next++) {
        const key = keys[index % keys.length]!
        const n = numbers.get(key) ?? 0
        numbers.set(key, n + 1)
        await this.#publish({ key, n })
      }
    }
    await Promise.all(Array.from({ length: atOnce }, work))
  }

  /** Publishes to every key now and then until the signal; each key waits for its last one. */
  async publishUntil(signal: AbortSignal, keys: readonly string[], pauseMs: number): Promise<void> {
    const work = async (key: string): Promise<void> => {
      for (let n = 0; !signal.aborted; n++) {
        await this.#publish({ key, n })
        await pause(pauseMs)
      }
    }
    await Promise.all(keys.map(work))
  }

  /** Something is done to the members. */
  fault(name: string): void {
    this.#history.write('fault_start', 'ok', { name })
    this.#history.write('fault_stop', 'ok', { name })
  }

  /** Lines of the history so far. */
  lines(wanted: (entry: Entry) => boolean): readonly Entry[] {
    return this.#tail.read().filter(wanted)
  }

  /** Ids that somebody handled. */
  handled(): ReadonlySet<string> {
    return new Set(this.lines(({ op }) => op === 'settle').map(({ msgId }) => `${msgId}`))
  }

  /** Until so many different messages are handled. */
  untilHandled(count: number, limitMs: number = LIMIT_MS): Promise<void> {
    return this.#until(`${count} messages handled`, () => this.handled().size >= count, limitMs)
  }

  /** Until everything confirmed is handled and finished, then all members leave, and everything is judged. */
  async verdict(expected: Expectations): Promise<Verdict> {
    await this.untilHandled(this.#confirmed.size)
    await this.#untilFinished()
    const living = this.members.filter(({ isAlive }) => isAlive)
    await Promise.all(living.map((member) => member.stop()))
    await this.#publisher.close({ timeoutMs: 10_000 })
    this.#history.write('process_end', 'ok')
    const { brokers } = this.#options
    const residue = await residueOf(brokers, this.topicName, GROUP, this.#confirmed)
    const all = { ...residue, 'handled twice at once': this.#overlaps() }
    const verdict = check(readHistory([this.#file]), {
      groups: [GROUP],
      ordered: this.#options.ordering === 'key',
      residue: all,
      ...expected,
    })
    assert.deepEqual(verdict.violations, [])
    return verdict
  }

  /** Ends everything, whatever happened. */
  async close(): Promise<void> {
    for (const member of this.members) if (member.isAlive) member.resume()
    await Promise.all(this.members.map((member) => member.kill()))
    await this.#publisher.close({ timeoutMs: 2_000 }).catch(() => undefined)
    rmSync(this.#folder, { recursive: true, force: true })
  }

  /** How often a process got a message that it was handling already. */
  #overlaps(): number {
    const open = new Set<string>()
    let count = 0
    for (const { op, proc, msgId } of this.#tail.read()) {
      const one = `${proc} ${msgId}`
      if (op === 'settle') open.delete(one)
      if (op !== 'deliver') continue
      if (open.has(one)) count++
      open.add(one)
    }
    return count
  }

  async #publish(item: Item): Promise<void> {
    const { key, n } = item
    const msgId = `p-${key}-${n}`
    const body = Buffer.from(JSON.stringify(item))
    const hash = contentHash({ body, key: Buffer.from(key), headers: [] })
    const facts = { msgId, producer: 'p', key, n, hash }
    this.#history.write('publish', 'invoke', facts)
    await this.#publisher.publish(this.#items, item, { id: msgId })
    this.#confirmed.add(msgId)
    this.#history.write('publish', 'ok', facts)
  }

  /** What somebody handled and could not commit any more comes again, to those who live. */
  async #untilFinished(): Promise<void> {
    let left: Readonly<Record<string, number>> = {}
    const isFinished = async (): Promise<boolean> => {
      left = await unfinished(this.#options.brokers, this.topicName, GROUP)
      return Object.values(left).every((count) => count === 0)
    }
    await until(() => `everything finished, ${JSON.stringify(left)}`, isFinished, LIMIT_MS)
  }

  async #until(what: string, isSo: () => boolean, limitMs: number = LIMIT_MS): Promise<void> {
    await until(what, () => Promise.resolve(isSo()), limitMs)
  }
}
