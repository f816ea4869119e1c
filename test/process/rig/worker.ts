import assert from 'node:assert/strict'
import { fork, type ChildProcess } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

import type { Role, Task } from './task.ts'

/** A task without what changes with each start of the process. */
export type Job = Task extends infer T
  ? T extends Task
    ? Omit<T, 'proc' | 'crash' | 'paths'>
    : never
  : never

/** How a process ended. */
export interface Exit {
  readonly code: number | null
  readonly signal: string | null
  readonly stderr: string
}

const TAIL = 4_000

/** File of a compiled child program: Node 20 runs no TypeScript. */
export function program(role: Role): string {
  const here = import.meta.url
  const built = process.env['HOLDFAST_DIST'] ?? 'dist'
  const path = here.endsWith('.ts')
    ? new URL(`../../../${built}/test/process/child-${role}.js`, here)
    : new URL(`../child-${role}.js`, here)
  const file = fileURLToPath(path)
  assert.ok(existsSync(file), `${file} is missing: build the package first (npm run build)`)
  return file
}

/** One life of a child process, from its start to its exit. */
export class Life {
  readonly proc: string
  readonly ended: Promise<Exit>
  /** It was killed by us. */
  killed = false
  exit: Exit | null = null
  readonly #child: ChildProcess
  #stderr = ''

  constructor(task: Task) {
    this.proc = task.proc
    this.#child = fork(program(task.role), [JSON.stringify(task)], {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      execArgv: [],
    })
    this.#child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
      this.#stderr = (this.#stderr + chunk).slice(-TAIL)
    })
    this.ended = new Promise((resolve) => {
      const end = (code: number | null, signal: string | null): void => {
        this.exit ??= { code, signal, stderr: this.#stderr }
        resolve(this.exit)
      }
      // 'close', not 'exit': what it wrote to stderr has arrived then.
      this.#child.once('close', end)
      this.#child.once('error', (error) => {
        this.#stderr += error.message
        end(1, null)
      })
    })
  }

  kill(): void {
    if (this.exit !== null) return
    this.killed = true
    this.#child.kill('SIGKILL')
  }

  pause(): void {
    this.#child.kill('SIGSTOP')
  }

  resume(): void {
    this.#child.kill('SIGCONT')
  }

  /** Asks it to finish what it has and end. */
  stop(): void {
    if (this.#child.connected) this.#child.send('stop')
  }
}
