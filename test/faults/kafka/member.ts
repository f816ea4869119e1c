import assert from 'node:assert/strict'
import { fork, type ChildProcess } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

import type { MemberTask } from './member-task.ts'

const TAIL = 4_000

/** A consumer in a process of its own, which can be killed. */
export class Member {
  readonly proc: string
  /** Resolves with how it ended, and what it said on its error output. */
  readonly ended: Promise<string>
  readonly #child: ChildProcess
  #stderr = ''
  #isAlive = true

  constructor(task: MemberTask) {
    this.proc = task.proc
    this.#child = fork(program(), [JSON.stringify(task)], {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      execArgv: [],
    })
    this.#child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
      this.#stderr = (this.#stderr + chunk).slice(-TAIL)
    })
    this.ended = new Promise((resolve) => {
      this.#child.once('close', (code, signal) => {
        this.#isAlive = false
        resolve(`${signal ?? code} ${this.#stderr}`.trim())
      })
    })
  }

  get isAlive(): boolean {
    return this.#isAlive
  }

  /** SIGKILL; resolves when it is gone. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.ended
  }

  /** Stands still until `resume`. */
  pause(): void {
    this.#child.kill('SIGSTOP')
  }

  resume(): void {
    this.#child.kill('SIGCONT')
  }

  /** Finishes what it has and leaves; fails when it ends in any other way. */
  async stop(): Promise<void> {
    if (this.#child.connected) this.#child.send('stop')
    assert.equal(await this.ended, '0', `${this.proc} did not end in order`)
  }
}

/** Compiled: Node 20 runs no TypeScript. */
function program(): string {
  const built = process.env['HOLDFAST_DIST'] ?? 'dist'
  const path = new URL(`../../../${built}/test/faults/kafka/child-member.js`, import.meta.url)
  const file = fileURLToPath(path)
  assert.ok(existsSync(file), `${file} is missing: build the package first (npm run build)`)
  return file
}
