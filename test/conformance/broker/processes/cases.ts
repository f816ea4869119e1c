import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import type { Case } from '../../case.ts'
import { check } from '../../checker/checker.ts'
import { readHistory, type Entry } from '../../checker/history.ts'
import { ackAtOnce } from '../connection.ts'
import { draft, run } from '../envelopes.ts'
import type { BrokerHarness } from '../harness.ts'
import { ordering, secondProcess } from '../needs.ts'
import { brokerCase, type Stage } from '../stage.ts'
import { Child } from './child-process.ts'
import type { Task } from './task.ts'

/** Everything but what the stage knows. */
type Errand = Task extends infer T
  ? T extends Task
    ? Omit<T, 'broker' | 'history' | 'group'>
    : never
  : never

/** Starts other processes that share one history, and ends them with the case. */
class Troupe {
  readonly #stage: Stage
  readonly #folder = mkdtempSync(join(tmpdir(), 'holdfast-conformance-'))
  readonly #children: Child[] = []

  constructor(stage: Stage) {
    this.#stage = stage
    stage.afterwards(async () => {
      await Promise.all(this.#children.map((child) => child.kill()))
      rmSync(this.#folder, { recursive: true, force: true })
    })
  }

  send(errand: Errand): Child {
    const broker = this.#stage.harness.secondProcess
    assert.ok(broker, 'the case uses a second process and has to need it')
    const child = new Child({ ...errand, broker, history: this.#file, group: 'a' })
    this.#children.push(child)
    return child
  }

  get #file(): string {
    return join(this.#folder, 'history.jsonl')
  }

  /** What all of them wrote so far. */
  history(): readonly Entry[] {
    return existsSync(this.#file) ? readHistory([this.#file]) : []
  }
}

const keys = ['a', 'b', 'c', 'd', 'e', 'f'] as const

function count(entries: readonly Entry[], op: Entry['op'], phase: Entry['phase'] = 'ok'): number {
  return entries.filter((entry) => entry.op === op && entry.phase === phase).length
}

/** Messages that were settled at least once. */
function settled(entries: readonly Entry[]): number {
  return new Set(entries.flatMap(({ op, msgId }) => (op === 'settle' ? [msgId] : []))).size
}

const scenes: readonly Case<BrokerHarness>[] = [
  brokerCase(
    'never hands out again what a killed process had finished and flushed',
    [secondProcess],
    async (stage) => {
      const connection = await stage.connect()
      const topic = await stage.topic(connection)
      await connection.confirmed(run(topic, null, 30))
      const troupe = new Troupe(stage)
      const child = troupe.send({ role: 'finish', proc: 'finisher', topic, count: 12 })
      await stage.within('the other process to die', child.killed())
      const finished = troupe.history().flatMap(({ op, msgId }) => (op === 'settle' ? [msgId] : []))
      assert.equal(finished.length, 12)
      const listener = await connection.listen(topic, { onReceived: ackAtOnce })
      await connection.confirmed([draft(topic, { body: 'marker' })])
      await stage.eventually(
        () => `${listener.received.length} of 19 arrived`,
        () => listener.received.length >= 19,
        stage.harness.takeoverMs,
      )
      await stage.quiet('a finished message came again', () => listener.received.length)
      const again = listener.received.filter(({ envelope }) => finished.includes(`${envelope.id}`))
      assert.equal(again.length, 0)
    },
  ),

  brokerCase(
    'shares its messages between processes: none lost, none twice',
    [secondProcess, ordering('key')],
    async (stage) => {
      const connection = await stage.connect()
      const topic = await stage.topic(connection, { ordering: 'key', partitions: 4 })
      const troupe = new Troupe(stage)
      const consumers = ['c1', 'c2'].map((proc) =>
        troupe.send({ role: 'consume', proc, topic, dieAfter: null }),
      )
      const producers = ['p1', 'p2'].map((proc) =>
        troupe.send({ role: 'publish', proc, topic, keys, each: 15 }),
      )
      await stage.within('publishing', Promise.all(producers.map((child) => child.finished())))
      await stage.eventually(
        () => `${settled(troupe.history())} of 180 handled`,
        () => settled(troupe.history()) === 180,
      )
      for (const child of consumers) child.stop()
      await stage.within('draining', Promise.all(consumers.map((child) => child.finished())))
      const verdict = check(troupe.history(), {
        inbox: true,
        demands: { published: 180, delivered: 180 },
      })
      assert.deepEqual(verdict.violations, [])
    },
  ),

  brokerCase(
    'loses nothing when a consuming process is killed',
    [secondProcess, ordering('key')],
    async (stage) => {
      const connection = await stage.connect()
      const topic = await stage.topic(connection, { ordering: 'key', partitions: 4 })
      const troupe = new Troupe(stage)
      const producer = troupe.send({ role: 'publish', proc: 'p1', topic, keys, each: 20 })
      const doomed = troupe.send({ role: 'consume', proc: 'doomed', topic, dieAfter: 25 })
      await stage.within('the consumer to die', doomed.killed())
      const heir = troupe.send({ role: 'consume', proc: 'heir', topic, dieAfter: null })
      await stage.within('publishing', producer.finished())
      await stage.eventually(
        () => `${settled(troupe.history())} of 120 handled`,
        () => settled(troupe.history()) === 120,
        stage.harness.takeoverMs,
      )
      heir.stop()
      await stage.within('draining', heir.finished())
      const history = troupe.history()
      assert.ok(count(history, 'deliver') > 120, 'what the dead process held did not come again')
      const verdict = check(history, {
        duplicates: 120,
        demands: { published: 120, killed: 1, redelivered: 1 },
      })
      assert.deepEqual(verdict.violations, [])
    },
  ),
]

/** Several processes on one store, and processes that are killed. */
export const processCases: readonly Case<BrokerHarness>[] = scenes.map((one) => ({
  ...one,
  most: 3,
}))
