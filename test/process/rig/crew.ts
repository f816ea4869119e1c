import { setTimeout as wait } from 'node:timers/promises'

import type { Tail } from './tail.ts'
import type { CrashPlan, Paths, Task } from './task.ts'
import { Life, type Exit, type Job } from './worker.ts'

/** How a worker is treated. */
export interface WorkerOptions {
  /** Of its first life only. */
  readonly crash?: CrashPlan
  /** Starts it again whenever it was killed. Default true. */
  readonly restart?: boolean
  readonly restartMs?: number
  /** Awaited between a death and the next start. */
  readonly onDeath?: (worker: Worker) => Promise<void>
}

/** Roles that end by themselves. */
const mortal: ReadonlySet<Task['role']> = new Set(['writer', 'lock', 'away'])

/** A process that is started again when it was killed. */
export class Worker {
  readonly name: string
  readonly lives: Life[] = []
  /** Ended because it was done or was asked to. */
  finished = false
  /** An end nobody can explain; the run is over then. */
  trouble: string | null = null
  readonly #job: Job
  readonly #paths: Paths
  readonly #history: Tail
  readonly #options: WorkerOptions
  #stopping = false
  #rebirth: Promise<void> = Promise.resolve()

  constructor(name: string, job: Job, paths: Paths, history: Tail, options: WorkerOptions) {
    this.name = name
    this.#job = job
    this.#paths = paths
    this.#history = history
    this.#options = options
    this.#start(options.crash ?? null)
  }

  get role(): Task['role'] {
    return this.#job.role
  }

  /** The life it has now, or had last. */
  get life(): Life {
    return this.lives.at(-1) as Life
  }

  get isAlive(): boolean {
    return this.life.exit === null
  }

  /** Neither dead nor being born, unless it is to stay dead. */
  get isSettled(): boolean {
    return this.isAlive || this.#options.restart === false
  }

  /** Lives that ended by SIGKILL, of ours or its own. */
  get deaths(): number {
    return this.lives.filter(({ exit }) => exit?.signal === 'SIGKILL').length
  }

  /** Ends in order; resolves when it has. A worker that is just being born is waited for. */
  async stop(): Promise<void> {
    this.#stopping = true
    await this.#rebirth
    this.life.stop()
    await this.life.ended
  }

  /** For cleaning up: nothing is left behind, nothing comes back. */
  async abandon(): Promise<void> {
    this.#stopping = true
    await this.#rebirth
    this.life.kill()
    await this.life.ended
  }

  #start(crash: CrashPlan | null): void {
    const { app, broker, history } = this.#paths
    const proc = `${this.name}.${this.lives.length}`
    const paths = { app, broker, history }
    const life = new Life({ ...this.#job, proc, crash, paths } as Task)
    this.lives.push(life)
    void life.ended.then((exit) => this.#died(life, exit))
  }

  #died(life: Life, exit: Exit): void {
    const { code, signal, stderr } = exit
    if (signal === 'SIGKILL' && (life.killed || this.#struck(life.proc))) {
      if (!this.#stopping && this.#options.restart !== false) this.#rebirth = this.#comeBack()
      return
    }
    if (code === 0 && (this.#stopping || mortal.has(this.role))) this.finished = true
    else this.trouble = `${life.proc} ended with ${signal ?? code}: ${stderr}`
  }

  /** It had said that it would. */
  #struck(proc: string): boolean {
    return this.#history.read().some((entry) => entry.proc === proc && entry.op === 'fault_start')
  }

  async #comeBack(): Promise<void> {
    try {
      await this.#options.onDeath?.(this)
      await wait(this.#options.restartMs ?? 0)
      this.#start(null)
    } catch (error) {
      this.trouble = `${this.name} was not started again: ${String(error)}`
    }
  }
}
