import { grouped } from './report.ts'

/** What is shown while the demo runs. */
export interface Snapshot {
  readonly accepted: number
  readonly rejected: number
  readonly expected: number
  readonly charged: number
  readonly dead: number
  readonly kills: number
  /** What happens right now, for example a process that is being started again. */
  readonly now: string
}

const PLAIN_EVERY_MS = 5_000
const REDRAW_EVERY_MS = 100

/** One line, redrawn, on a terminal; else a plain line every few seconds. */
export class Progress {
  readonly #out: NodeJS.WriteStream
  #shownAt = Number.NEGATIVE_INFINITY
  #drawn = false

  constructor(out: NodeJS.WriteStream) {
    this.#out = out
  }

  show(snapshot: Snapshot): void {
    const now = performance.now()
    const every = this.#out.isTTY ? REDRAW_EVERY_MS : PLAIN_EVERY_MS
    if (now - this.#shownAt < every) return
    this.#shownAt = now
    if (this.#out.isTTY) this.#redraw(lineOf(snapshot))
    else this.#out.write(`${lineOf(snapshot)}\n`)
  }

  /** Says something that stays; the redrawn line goes on below it. */
  say(text: string): void {
    this.clear()
    this.#out.write(`${text}\n`)
  }

  clear(): void {
    if (this.#drawn) this.#out.write('\r\x1b[K')
    this.#drawn = false
  }

  #redraw(line: string): void {
    // A line that wraps could not be redrawn.
    this.#out.write(`\r\x1b[K${line.slice(0, Math.max(20, (this.#out.columns ?? 80) - 1))}`)
    this.#drawn = true
  }
}

function lineOf(snapshot: Snapshot): string {
  const { accepted, rejected, expected, charged, dead, kills, now } = snapshot
  const parts = [
    `accepted ${grouped(accepted)} of ${grouped(Math.max(expected, accepted))}`,
    ...(rejected > 0 ? [`rejected ${grouped(rejected)}`] : []),
    `charged ${grouped(charged)}`,
    `dead ${dead}`,
    `kills ${kills}`,
    ...(now === '' ? [] : [now]),
  ]
  return parts.join(' · ')
}
