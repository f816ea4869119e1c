import { appendFileSync } from 'node:fs'

import { History, HistoryTail } from './history.ts'
import type { View } from './live-view.ts'
import { files, type Settings } from './settings.ts'
import { work } from './shop.ts'
import type { Running } from './watch.ts'

/** The whole shop in this process, for a broker that lives in its memory: nothing is killed. */
export class OneProcess implements Running {
  lastSignOfLife: number = performance.now()
  trouble: string | null = null
  readonly counts: { dead: number; readonly kills: number } = { dead: 0, kills: 0 }
  readonly now: string = ''

  readonly #history: History
  readonly #tail: HistoryTail
  readonly #stop = new AbortController()
  readonly #working: Promise<void>

  constructor(settings: Settings) {
    const path = files.history(settings.dir, 'shop')
    this.#history = new History(path, 'shop')
    this.#tail = new HistoryTail(path)
    const roles = ['relay', 'billing', 'intake'] as const
    // On the terminal warnings would tear the progress line.
    const log = files.log(settings.dir, 'shop')
    const sink = { warn: (line: string): void => appendFileSync(log, `${line}\n`) }
    const working = work(roles, settings, this.#history, this.#stop.signal, sink)
    this.#working = working.catch((error: Error) => {
      this.trouble = error.stack ?? error.message
    })
  }

  /** What the database says about the intake is enough here. */
  get calm(): boolean {
    return true
  }

  tick(_view: View): void {
    this.#tail.read(({ op }) => {
      this.lastSignOfLife = performance.now()
      if (op === 'dead') this.counts.dead++
    })
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    await this.#working
    this.#history.close()
  }
}
