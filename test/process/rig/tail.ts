import { closeSync, existsSync, openSync, readSync } from 'node:fs'

import type { Entry } from '../../conformance/checker/history.ts'

const CHUNK = 1_048_576

/** Follows a history while processes append to it. */
export class Tail {
  readonly entries: Entry[] = []
  readonly #path: string
  readonly #buffer = Buffer.alloc(CHUNK)
  #offset = 0
  #rest = ''

  constructor(path: string) {
    this.#path = path
  }

  /** Everything written so far, in the order of the file. */
  read(): readonly Entry[] {
    if (!existsSync(this.#path)) return this.entries
    const file = openSync(this.#path, 'r')
    try {
      for (let got = CHUNK; got === CHUNK;) {
        got = readSync(file, this.#buffer, 0, CHUNK, this.#offset)
        this.#offset += got
        this.#take(this.#buffer.toString('latin1', 0, got))
      }
    } finally {
      closeSync(file)
    }
    return this.entries
  }

  /** Byte by byte as text, since a chunk may end within a character; lines are whole. */
  #take(text: string): void {
    const lines = (this.#rest + text).split('\n')
    this.#rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line !== '') {
        this.entries.push(JSON.parse(Buffer.from(line, 'latin1').toString('utf8')) as Entry)
      }
    }
  }
}
