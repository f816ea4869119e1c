import { fork, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'

import type { Driver } from '../../../adapters/sqlite/driver.ts'

const program = fileURLToPath(new URL('lock-holder.mjs', import.meta.url))

/**
 * Another process that can hold the write lock of a file. Not a connection of this one: whoever
 * waited for the lock in this thread would keep away who has to let go of it.
 */
export class LockHolder {
  readonly #child: ChildProcess
  readonly #ready: Promise<void>
  readonly #ended: Promise<void>

  constructor(driver: Driver, file: string) {
    const stdio = ['ignore', 'inherit', 'inherit', 'ipc'] as const
    this.#child = fork(program, [driver.name, file], { stdio: [...stdio], execArgv: [] })
    this.#ended = new Promise((resolve) => void this.#child.once('close', () => resolve()))
    this.#ready = this.#told('ready')
    // Heard by whoever asks it for something.
    this.#ready.catch(() => undefined)
  }

  /** Resolves when it has the lock, for which it waits like everybody else. */
  async take(): Promise<void> {
    await this.#ready
    await this.#ask('take')
  }

  /** Resolves when it has let go of the lock. */
  give(): Promise<void> {
    return this.#ask('give')
  }

  /** Ends the process, and with it its lock. */
  async end(): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.#ended
  }

  async #ask(word: string): Promise<void> {
    const answered = this.#told(word)
    this.#child.send(word)
    await answered
  }

  #told(word: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const listen = (told: unknown): void => {
        if (told !== word) return
        this.#child.off('message', listen)
        resolve()
      }
      this.#child.on('message', listen)
      void this.#ended.then(() => reject(new Error(`the lock holder ended before '${word}'`)))
    })
  }
}
