import assert from 'node:assert/strict'
import { fork, type ChildProcess } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

import type { Task } from './task.ts'

const TAIL = 2_000

/** The compiled program, also when the suite itself runs from its sources. */
function program(): string {
  const here = import.meta.url
  const built = here.endsWith('.ts')
    ? new URL('../../../../dist/test/conformance/child.js', here)
    : new URL('../../child.js', here)
  const file = fileURLToPath(built)
  assert.ok(existsSync(file), `${file} is missing: build the package first (npm run build)`)
  return file
}

/** One other process at work. */
export class Child {
  readonly #process: ChildProcess
  readonly #ended: Promise<{ readonly code: number | null; readonly signal: string | null }>
  #stderr = ''

  constructor(task: Task) {
    this.#process = fork(program(), [JSON.stringify(task)], {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      execArgv: [],
    })
    this.#process.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
      this.#stderr = (this.#stderr + chunk).slice(-TAIL)
    })
    this.#ended = new Promise((resolve) => {
      this.#process.once('exit', (code, signal) => resolve({ code, signal }))
      this.#process.once('error', () => resolve({ code: 1, signal: null }))
    })
  }

  /** Resolves when it ended in order; rejects with the end of its stderr when it did not. */
  async finished(): Promise<void> {
    const { code, signal } = await this.#ended
    assert.equal(signal ?? code, 0, `the process ended with ${signal ?? code}: ${this.#stderr}`)
  }

  /** Resolves when it was killed; rejects when it ended in any other way. */
  async killed(): Promise<void> {
    const { code, signal } = await this.#ended
    assert.equal(signal, 'SIGKILL', `the process ended with ${signal ?? code}: ${this.#stderr}`)
  }

  /** Asks it to finish what it has and end. */
  stop(): void {
    if (this.#process.connected) this.#process.send('stop')
  }

  /** Ends it at once if it still runs. */
  async kill(): Promise<void> {
    this.#process.kill('SIGKILL')
    await this.#ended
  }
}
