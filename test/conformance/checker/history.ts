import { appendFileSync, readFileSync } from 'node:fs'
import { createHash } from 'node:crypto'

import { isOwnHeader } from '../../../src/contract/headers.ts'
import type { Envelope } from '../../../src/contract/message.ts'

/** How far an operation is: begun, worked, certainly did not, nobody knows. */
export type Phase = 'invoke' | 'ok' | 'fail' | 'info'

/** What a process can write down. */
export type Operation =
  | 'publish'
  | 'tx_begin'
  | 'enqueue'
  | 'tx_commit'
  | 'tx_rollback'
  | 'deliver'
  | 'effect'
  | 'settle'
  | 'source_lost'
  | 'dlq_seen'
  | 'dead_seen'
  | 'fault_start'
  | 'fault_stop'
  | 'lib_metric'
  | 'process_end'

/** The facts of one line; which of them are there depends on the operation. */
export interface Facts {
  /** Message value: `<producer>-<key>-<n>`, with `n` dense from 0 per producer and key. */
  readonly msgId?: string
  readonly producer?: string
  readonly key?: string
  readonly n?: number
  /** Of body and headers, so that a changed message is an invented one. */
  readonly hash?: string
  /** Names the transaction an `enqueue` belongs to. */
  readonly tx?: string
  /** The group that got the delivery or made the effect. */
  readonly group?: string
  /** Names one delivery within its process; its `settle` carries the same. */
  readonly delivery?: string
  readonly attempt?: number
  readonly redelivered?: boolean
  /** Of a settle: ack, release, retry or dead. Of a publish or commit: an error code. */
  readonly outcome?: string
  readonly errClass?: string
  /** Why a message is in a dead-letter destination or table. */
  readonly reason?: string
  /** Name and value of a `lib_metric`, or name of a fault. */
  readonly name?: string
  readonly value?: number
}

/** One line of a history. */
export interface Entry extends Facts {
  readonly run: string
  readonly proc: string
  readonly pid: number
  /** Dense from 0 within the process. */
  readonly seq: number
  /** Nanoseconds of the machine's monotonic clock, the same for all its processes. */
  readonly t_mono: number
  /** Unix milliseconds. */
  readonly t_wall: number
  readonly op: Operation
  readonly phase: Phase
}

/**
 * Appends one line per record with one write each, so that a SIGKILL tears none. `invoke` is written
 * before the call it announces; what was not answered stays open and counts as unknown.
 */
export class History {
  readonly #file: string
  readonly #run: string
  readonly #proc: string
  #seq = 0

  constructor(file: string, run: string, proc: string) {
    this.#file = file
    this.#run = run
    this.#proc = proc
  }

  write(op: Operation, phase: Phase, facts: Facts = {}): void {
    const entry: Entry = {
      run: this.#run,
      proc: this.#proc,
      pid: process.pid,
      seq: this.#seq++,
      t_mono: Number(process.hrtime.bigint()),
      t_wall: Date.now(),
      op,
      phase,
      ...facts,
    }
    appendFileSync(this.#file, `${JSON.stringify(entry)}\n`, { flag: 'a' })
  }
}

/** All entries of these files in the order they happened. Throws on a line that is not an entry. */
export function readHistory(files: readonly string[]): readonly Entry[] {
  const entries = files.flatMap((file) =>
    readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Entry),
  )
  return entries.toSorted((one, other) => one.t_mono - other.t_mono || one.seq - other.seq)
}

/** What has to be the same at both ends of the way: body, key and the sender's headers. */
export function contentHash({
  body,
  key,
  headers,
}: Pick<Envelope, 'body' | 'key' | 'headers'>): string {
  const hash = createHash('sha256')
  hash.update(body === null ? 'null' : Buffer.concat([Buffer.from('body:'), body]))
  hash.update(key === null ? 'null' : Buffer.concat([Buffer.from('key:'), key]))
  for (const [name, value] of headers) {
    if (!isOwnHeader(name))
      hash.update(`${name}=${value === null ? 'null' : Buffer.from(value).toString('hex')};`)
  }
  return hash.digest('hex').slice(0, 16)
}
