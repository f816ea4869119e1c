import type { Socket } from 'node:net'

/** More than this waiting, and the proxy stops reading: the sender feels it, as on a slow line. */
const HIGH_WATER_BYTES = 256 * 1024
const TICK_MS = 10

/** How a direction treats bytes at present. */
export interface Line {
  /** Every byte comes that much later, in milliseconds. */
  delayMs: number
  /** Bytes per second; Infinity: as fast as it goes. */
  bytesPerSecond: number
  /** Nothing passes and nothing is lost: it waits, like on a line that is down for a while. */
  isHeld: boolean
  /** Called for everything that passes while there is a fault. */
  onPassing: (() => void) | null
}

/** A line without faults. */
export function healthyLine(): Line {
  return { delayMs: 0, bytesPerSecond: Infinity, isHeld: false, onPassing: null }
}

/** One direction of a connection: what is pushed in arrives at the socket when the line lets it. */
export class Pipe {
  readonly #from: Socket
  readonly #to: Socket
  readonly #line: Line
  readonly #queue: { readonly bytes: Buffer; readonly dueMs: number }[] = []
  #waiting = 0
  #timer: NodeJS.Timeout | null = null
  #sentMs = 0
  #isFull = false
  #ending: (() => void) | null = null
  #budget = Infinity
  #onCut: () => void = () => undefined

  constructor(from: Socket, to: Socket, line: Line) {
    this.#from = from
    this.#to = to
    this.#line = line
    to.on('drain', () => {
      this.#isFull = false
      this.wake()
    })
  }

  push(bytes: Buffer): void {
    if (bytes.length === 0) return
    this.#line.onPassing?.()
    this.#queue.push({ bytes, dueMs: performance.now() + this.#line.delayMs })
    this.#waiting += bytes.length
    if (this.#waiting > HIGH_WATER_BYTES) this.#from.pause()
    this.wake()
  }

  /** Calls `onCut` when that many more bytes have arrived; the rest is lost. */
  cutAfter(bytes: number, onCut: () => void): void {
    this.#budget = bytes
    this.#onCut = onCut
  }

  /** Runs `then` once everything pushed before has arrived. */
  finish(then: () => void): void {
    this.#ending = then
    this.wake()
  }

  /** Goes on, with the line as it is now. */
  wake(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    if (this.#to.destroyed) this.#queue.length = 0
    while (this.#queue.length > 0) {
      const pauseMs = this.#pauseMs()
      if (pauseMs === null) return
      if (pauseMs > 0) return this.#wakeIn(pauseMs)
      if (!this.#writeNext()) return
    }
    this.#from.resume()
    this.#ending?.()
    this.#ending = null
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    this.#queue.length = 0
    this.#ending = null
  }

  /** How long the next bytes have to wait; null: until somebody calls. */
  #pauseMs(): number | null {
    if (this.#line.isHeld || this.#isFull) return null
    const now = performance.now()
    const late = (this.#queue[0]?.dueMs ?? 0) - now
    if (late > 0) return late
    if (this.#line.bytesPerSecond === Infinity) return 0
    return Math.max(0, this.#sentMs + 1_000 / this.#line.bytesPerSecond - now)
  }

  #wakeIn(ms: number): void {
    this.#timer = setTimeout(() => this.wake(), Math.ceil(ms))
  }

  /** False when this was the last that may pass. */
  #writeNext(): boolean {
    const next = this.#queue[0]!
    const part = next.bytes.subarray(0, Math.min(this.#allowance(), this.#budget))
    if (part.length === next.bytes.length) this.#queue.shift()
    else this.#queue[0] = { bytes: next.bytes.subarray(part.length), dueMs: next.dueMs }
    this.#waiting -= part.length
    this.#sentMs = performance.now()
    this.#budget -= part.length
    if (this.#budget > 0) {
      this.#isFull = !this.#to.write(part)
    } else {
      // Only once they are with the kernel: a reset takes what is still buffered here.
      this.#to.write(part, () => setImmediate(this.#onCut))
      this.#queue.length = 0
    }
    if (this.#waiting <= HIGH_WATER_BYTES) this.#from.resume()
    return this.#budget > 0
  }

  /** Bytes that may be written now. */
  #allowance(): number {
    const { bytesPerSecond } = this.#line
    if (bytesPerSecond === Infinity) return Infinity
    const sinceMs = Math.min(performance.now() - this.#sentMs, TICK_MS * 10)
    return Math.max(1, Math.floor((bytesPerSecond * sinceMs) / 1_000))
  }
}
