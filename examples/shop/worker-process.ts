import { spawn, type ChildProcess } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

import { HistoryTail, type History, type HistoryEvent } from './history.ts'
import { files } from './settings.ts'
import type { Role } from './shop.ts'

/** Exits nobody asked for, after which a process is not started again. */
const MOST_CRASHES = 5
const RESTART_MS = 100

/** One process of the shop: started, killed, started again. */
export class WorkerProcess {
  readonly name: string
  /** SIGKILLs that it died from. */
  kills = 0
  /** Exits nobody asked for. */
  crashes = 0
  /** Orders taken, messages published or charges begun since it was last started. */
  workedSinceStart = 0
  /** True when it ended because it had nothing more to do. */
  finished = false

  readonly #role: Role
  readonly #dir: string
  readonly #history: History
  readonly #tail: HistoryTail
  #child: ChildProcess | null = null
  #killing = false
  #stopping = false
  #restart: NodeJS.Timeout | undefined
  #exited: Promise<void> = Promise.resolve()

  constructor(name: string, role: Role, dir: string, history: History) {
    this.name = name
    this.#role = role
    this.#dir = dir
    this.#history = history
    this.#tail = new HistoryTail(files.history(dir, name))
  }

  get running(): boolean {
    return this.#child !== null
  }

  /** Why it is not started again; null while it is. */
  get givenUp(): string | null {
    if (this.crashes < MOST_CRASHES) return null
    const log = readFileSync(files.log(this.#dir, this.name), 'utf8').trim().split('\n').slice(-12)
    return `${this.name} ended by itself ${this.crashes} times; the end of its log:\n${log.join('\n')}`
  }

  start(): void {
    const log = openSync(files.log(this.#dir, this.name), 'a')
    const script = fileURLToPath(new URL('worker.js', import.meta.url))
    // The channel tells the worker when the demo is gone, so that nothing is left behind.
    const child = spawn(process.execPath, [script, this.#role, this.name, this.#dir], {
      stdio: ['ignore', log, log, 'ipc'],
    })
    closeSync(log)
    this.#child = child
    this.workedSinceStart = 0
    this.#exited = new Promise((resolve) => {
      child.once('error', (error) => this.#ended(child, error.message, resolve))
      child.once('exit', (code, signal) => this.#ended(child, signal ?? code ?? 0, resolve))
    })
  }

  /** Passes on what it wrote into its history since the last call. */
  observe(listener: (event: HistoryEvent) => void): void {
    this.#tail.read((event) => {
      if (event.pid === this.#child?.pid && isWork(event)) this.workedSinceStart++
      listener(event)
    })
  }

  /** False when it is not running at the moment. */
  kill(): boolean {
    if (this.#child === null || this.#killing) return false
    this.#killing = true
    return this.#child.kill('SIGKILL')
  }

  /** Asks it to finish what it began; false when it had to be killed after `timeoutMs`. */
  async stop(timeoutMs: number): Promise<boolean> {
    this.#stopping = true
    clearTimeout(this.#restart)
    const child = this.#child
    if (child === null) return true
    child.kill('SIGTERM')
    let late = false
    const timer = setTimeout(() => {
      late = true
      child.kill('SIGKILL')
    }, timeoutMs)
    await this.#exited
    clearTimeout(timer)
    return !late
  }

  /** For when the demo itself is interrupted. */
  abandon(): void {
    this.#stopping = true
    clearTimeout(this.#restart)
    this.#child?.kill('SIGKILL')
  }

  #ended(child: ChildProcess, how: string | number, resolve: () => void): void {
    if (this.#child !== child) return
    const victimPid = child.pid ?? 0
    const wasKilled = this.#killing && how === 'SIGKILL'
    this.#child = null
    this.#killing = false
    this.workedSinceStart = 0
    if (wasKilled) {
      this.kills++
      this.#history.write('ok', { op: 'kill', victim: this.name, victimPid })
    } else if (how === 0 && this.#role === 'intake') {
      this.finished = true
    } else if (!this.#stopping) {
      this.crashes++
      this.#history.write('info', { op: 'crash', victim: this.name, how: String(how) })
    }
    if (!this.finished && !this.#stopping && this.crashes < MOST_CRASHES) {
      this.#restart = setTimeout(() => this.start(), RESTART_MS)
    }
    resolve()
  }
}

function isWork({ op }: HistoryEvent): boolean {
  return op === 'order' || op === 'publish' || op === 'charge'
}
