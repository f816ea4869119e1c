import { closeSync, openSync, readSync, writeSync, existsSync } from 'node:fs'

/** invoke: about to begin; ok, fail: how it ended; info: its end is unknown, or just a fact. */
export type Phase = 'invoke' | 'ok' | 'fail' | 'info'

/** What a process says about one step of its work. */
export type Fact =
  | { readonly op: 'start' }
  /** An order and its message are stored in one transaction. */
  | { readonly op: 'order'; readonly id: string; readonly line: number }
  | { readonly op: 'publish'; readonly count: number }
  | { readonly op: 'park'; readonly message: string | null; readonly reason: string }
  /** A handler runs: `invoke` at its start, `fail` with the reason. */
  | {
      readonly op: 'charge'
      readonly id: string
      readonly message: string
      readonly key?: string
      readonly line?: number
      readonly attempt?: number
      readonly reason?: string
    }
  /** The inbox knew the message already; no handler ran. */
  | { readonly op: 'duplicate'; readonly message: string | null }
  /** The effect of a message is committed and its delivery settled. */
  | { readonly op: 'done'; readonly message: string | null }
  | { readonly op: 'dead'; readonly message: string | null; readonly reason: string }
  | { readonly op: 'kill'; readonly victim: string; readonly victimPid: number }
  | { readonly op: 'crash'; readonly victim: string; readonly how: string }
  | { readonly op: 'outage' | 'restart'; readonly ms?: number; readonly reason?: string }

/** One line of a history. */
export type HistoryEvent = Fact & {
  readonly proc: string
  readonly pid: number
  /** 1, 2, … within the process. */
  readonly seq: number
  /** Microseconds of the machine's monotonic clock: comparable between its processes. */
  readonly at: number
  readonly wall: string
  readonly phase: Phase
}

/**
 * The append-only history of one process: one write per line to a file opened for appending, so
 * that a process killed at any moment leaves whole lines of everything that happened before.
 */
export class History {
  readonly #file: number
  readonly #proc: string
  #seq = 0

  constructor(path: string, proc: string) {
    this.#file = openSync(path, 'a')
    this.#proc = proc
  }

  write(phase: Phase, fact: Fact): void {
    const about = { proc: this.#proc, pid: process.pid, seq: ++this.#seq }
    const times = { at: Number(process.hrtime.bigint() / 1_000n), wall: new Date().toISOString() }
    writeSync(this.#file, `${JSON.stringify({ ...about, ...times, phase, ...fact })}\n`)
  }

  close(): void {
    closeSync(this.#file)
  }
}

/** Follows a history while it is written; each call of `read` passes on the lines that are new. */
export class HistoryTail {
  readonly #path: string
  #offset = 0
  #rest = ''
  /** Lines that are not JSON: there should be none, a reader says so when there are. */
  torn = 0

  constructor(path: string) {
    this.#path = path
  }

  read(listener: (event: HistoryEvent) => void): void {
    for (const line of this.#lines()) {
      const event = parsed(line)
      if (event === null) this.torn++
      else listener(event)
    }
  }

  *#lines(): Generator<string> {
    if (!existsSync(this.#path)) return
    const file = openSync(this.#path, 'r')
    try {
      const chunk = Buffer.allocUnsafe(262_144)
      for (;;) {
        const bytes = readSync(file, chunk, 0, chunk.length, this.#offset)
        if (bytes === 0) return
        this.#offset += bytes
        // Latin 1 keeps bytes apart, so that a chunk may end inside a character.
        const lines = (this.#rest + chunk.toString('latin1', 0, bytes)).split('\n')
        this.#rest = lines.pop() ?? ''
        for (const line of lines) yield Buffer.from(line, 'latin1').toString('utf8')
      }
    } finally {
      closeSync(file)
    }
  }
}

function parsed(line: string): HistoryEvent | null {
  try {
    return JSON.parse(line) as HistoryEvent
  } catch {
    return null
  }
}
