import { createReadStream } from 'node:fs'

/** Longest line that is kept in memory, in bytes. */
export const LONGEST_LINE = 1_048_576

/** One line of a file. */
export interface Line {
  /** From 1. */
  readonly number: number
  /** Without its end and without a byte order mark; null when it is longer than the limit. */
  readonly bytes: Buffer | null
  /** Offset in the file of what comes after it: where reading may go on later. */
  readonly end: number
}

/** Where to read. */
export interface Span {
  /** Offset of the first byte; must be the start of a line. */
  readonly from: number
  /** Offset behind the last byte, so that a file that still grows has an end. */
  readonly to: number
  /** Lines before `from`. */
  readonly linesBefore: number
  /** Default `LONGEST_LINE`. */
  readonly maxBytes?: number
}

const NEWLINE = 0x0a
const CARRIAGE_RETURN = 0x0d
const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf])

/** Reads lines that end with LF or CRLF, the last one also without; never holds more than one line. */
export async function* readLines(path: string, span: Span): AsyncGenerator<Line> {
  if (span.to <= span.from) return
  const { from, to, maxBytes = LONGEST_LINE } = span
  const held = new HeldLine(maxBytes)
  let number = span.linesBefore
  let end = from
  for await (const chunk of createReadStream(path, { start: from, end: to - 1 })) {
    const bytes = chunk as Buffer
    let start = 0
    for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE, start)) {
      held.add(bytes.subarray(start, at))
      end += at + 1 - start
      start = at + 1
      yield { number: ++number, bytes: cleaned(held.take(), number), end }
    }
    held.add(bytes.subarray(start))
    end += bytes.length - start
  }
  if (held.length > 0) yield { number: ++number, bytes: cleaned(held.take(), number), end }
}

/** The part of a line that was read; beyond the limit only its length is kept. */
class HeldLine {
  length = 0
  #parts: Buffer[] = []
  readonly #maxBytes: number

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  add(part: Buffer): void {
    this.length += part.length
    if (this.length > this.#maxBytes) this.#parts = []
    else this.#parts.push(part)
  }

  take(): Buffer | null {
    const whole = this.length > this.#maxBytes ? null : Buffer.concat(this.#parts)
    this.#parts = []
    this.length = 0
    return whole
  }
}

function cleaned(bytes: Buffer | null, number: number): Buffer | null {
  if (bytes === null) return null
  const marked = number === 1 && bytes.subarray(0, 3).equals(BYTE_ORDER_MARK)
  const end = bytes.at(-1) === CARRIAGE_RETURN ? bytes.length - 1 : bytes.length
  return bytes.subarray(marked ? 3 : 0, end)
}
