import { execFile } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'

import { History } from './history.ts'
import { readerOf } from './server-reader.ts'
import { files, type Settings } from './settings.ts'

const run = promisify(execFile)

/** A broker gets this long to end by itself, then its container is killed. */
const END_S = 10
const BACK_WITHIN_MS = 120_000
const LOOK_EVERY_MS = 250

/** Restarts the broker; in its history stands how long it was away. */
export class Restart {
  readonly #settings: Settings
  readonly #container: string | null
  #going = false
  #abandoned = false

  constructor(settings: Settings, container: string | null) {
    this.#settings = settings
    this.#container = container
  }

  get going(): boolean {
    return this.#going
  }

  /** Resolves when the broker answers again; what failed stands in the history. */
  async happen(): Promise<void> {
    this.#going = true
    const history = new History(files.history(this.#settings.dir, 'restart'), 'restart')
    try {
      await this.#restart(history)
    } catch (error) {
      history.write('fail', { op: 'restart', reason: (error as Error).message })
    } finally {
      history.close()
      this.#going = false
    }
  }

  /** Waits for nothing any more. */
  abandon(): void {
    this.#abandoned = true
  }

  async #restart(history: History): Promise<void> {
    const { url, broker } = this.#settings
    const reader = readerOf(broker)
    if (this.#container === null || url === null || reader === null) {
      throw new Error('--container names what to restart')
    }
    const before = await startedAt(this.#container)
    const from = performance.now()
    history.write('invoke', { op: 'restart' })
    const patience = { timeout: (END_S + 60) * 1_000 }
    await run('docker', ['restart', '-t', String(END_S), this.#container], patience)
    while (!(await reader.answers(url))) {
      const waited = performance.now() - from
      if (this.#abandoned || waited > BACK_WITHIN_MS) {
        throw new Error(`it did not answer within ${Math.round(waited / 1_000)} s`)
      }
      await sleep(LOOK_EVERY_MS)
    }
    if ((await startedAt(this.#container)) === before) throw new Error('the container went on')
    history.write('ok', { op: 'restart', ms: Math.round(performance.now() - from) })
  }
}

async function startedAt(container: string): Promise<string> {
  const args = ['inspect', '--format', '{{.State.StartedAt}}', container]
  return (await run('docker', args, { timeout: 10_000 })).stdout.trim()
}
