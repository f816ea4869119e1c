import assert from 'node:assert/strict'
import { setTimeout as wait } from 'node:timers/promises'

import type { Entry } from '../../conformance/checker/history.ts'
import type { Expectations, Verdict } from '../../conformance/checker/verdict.ts'
import { Worker, type WorkerOptions } from './crew.ts'
import { makeTables, newFolder, removeFolder, type Layout } from './files.ts'
import { judge, type Extras } from './judge.ts'
import { Reader } from './reader.ts'
import { Tail } from './tail.ts'
import type { Paths } from './task.ts'
import type { Job } from './worker.ts'

/** How often conditions are looked at. */
const LOOK_MS = 40
const STOP_MS = 40_000

/** What a run is made with. */
export interface RunOptions {
  readonly layout?: Layout
}

/** Several processes on real files, what is done to them, and the judgement of it. */
export class Run {
  readonly paths: Paths
  readonly folder: string
  readonly history: Tail
  readonly workers: Worker[] = []
  readonly reader: Reader

  private constructor(paths: Paths, folder: string, reader: Reader) {
    this.paths = paths
    this.folder = folder
    this.reader = reader
    this.history = new Tail(paths.history)
  }

  static async begin({ layout = 'two files' }: RunOptions): Promise<Run> {
    const { folder, ...paths } = newFolder(layout)
    await makeTables(paths)
    return new Run(paths, folder, await Reader.open(paths))
  }

  /** Starts a process. */
  worker(name: string, job: Job, options: WorkerOptions = {}): Worker {
    const worker = new Worker(name, job, this.paths, this.history, options)
    this.workers.push(worker)
    return worker
  }

  /** Lines of the history so far. */
  lines(wanted: (entry: Entry) => boolean): readonly Entry[] {
    return this.history.read().filter(wanted)
  }

  /** Sum of a counter of the library, over all processes so far. */
  metric(name: string, proc?: string): number {
    const mine = this.lines(
      (entry) =>
        entry.op === 'lib_metric' &&
        entry.name === name &&
        (proc === undefined || entry.proc === proc),
    )
    return mine.reduce((sum, { value = 0 }) => sum + value, 0)
  }

  /** Fails when a process ended that should not have. */
  assertNoTrouble(): void {
    for (const { trouble } of this.workers) if (trouble !== null) assert.fail(trouble)
  }

  /** Waits for a condition; fails at once when a process ended that should not have. */
  async until(what: string, limitMs: number, condition: () => boolean): Promise<void> {
    const giveUpAt = performance.now() + limitMs
    while (!condition()) {
      this.assertNoTrouble()
      assert.ok(performance.now() < giveUpAt, `not within ${limitMs} ms: ${what}`)
      await wait(LOOK_MS)
    }
    this.assertNoTrouble()
  }

  /** Writers end with what they have begun. */
  async finishWriting(): Promise<void> {
    const writing = this.#writers.filter(({ finished }) => !finished)
    await Promise.all(writing.map((writer) => writer.stop()))
    this.assertNoTrouble()
  }

  /** Everything is written, relayed, handled and settled. */
  drained(limitMs: number): Promise<void> {
    const isDrained = (): boolean =>
      this.workers.every((worker) => worker.finished || worker.isSettled) &&
      this.#writers.every(({ finished }) => finished) &&
      this.reader.pending().length === 0 &&
      this.reader.waiting().length === 0
    return this.until('everything written, relayed and handled', limitMs, isDrained)
  }

  /** Ends every process in order. */
  async stop(): Promise<void> {
    const stopping = this.workers.filter(({ finished }) => !finished)
    const stops = Promise.all(stopping.map((worker) => worker.stop()))
    const late = wait(STOP_MS, 'late' as const, { ref: false })
    const names = (): string =>
      stopping
        .filter(({ isAlive }) => isAlive)
        .map(nameOf)
        .join(', ')
    if ((await Promise.race([stops, late])) === 'late') assert.fail(`did not end: ${names()}`)
    this.assertNoTrouble()
  }

  /** Ends every process, then judges what is left; throws when anything is wrong. */
  async verdict(expected: Expectations & Extras = {}): Promise<Verdict> {
    await this.stop()
    this.reader.close()
    return judge(this, expected)
  }

  /** Nothing is left behind; the folder is, when it has to be looked at. */
  async end(keep: boolean): Promise<void> {
    for (const { life } of this.workers) if (life.exit === null) life.resume()
    await Promise.all(this.workers.map((worker) => worker.abandon()))
    this.reader.close()
    if (!keep) removeFolder(this.folder)
  }

  get #writers(): readonly Worker[] {
    return this.workers.filter(({ role }) => role === 'writer')
  }
}

function nameOf({ name }: Worker): string {
  return name
}

/** Gives `work` a run and ends it whatever happens; after a failure its files are kept and named. */
export async function inRun(options: RunOptions, work: (run: Run) => Promise<void>): Promise<void> {
  const run = await Run.begin(options)
  try {
    await work(run)
  } catch (error) {
    console.error(`the files of this run are in ${run.folder}`)
    await run.end(true)
    throw error
  }
  await run.end(false)
}
