import { frameType, type Frame } from './amqp-frames.ts'
import { contentBytes } from './amqp-methods.ts'

/**
 * One direction of one channel: which content belongs to which method, what is dropped with its
 * method, and what waits behind a delayed frame.
 */
export class ChannelFlow {
  readonly #out: (bytes: Buffer) => void
  readonly #delayed: { readonly bytes: Buffer; readonly dueMs: number }[] = []
  readonly #afterContent: (() => void)[] = []
  #timer: NodeJS.Timeout | null = null
  #contentLeft: number | null = 0
  #drops = false

  constructor(out: (bytes: Buffer) => void) {
    this.#out = out
  }

  /** A method; what follows it as content shares its fate. */
  method(frame: Frame, { drops, hasContent }: { drops: boolean; hasContent: boolean }): void {
    this.#contentLeft = hasContent ? null : 0
    this.#drops = drops
    if (!drops) this.write(frame.bytes)
    this.#ended()
  }

  /** A content header or a body. */
  content(frame: Frame): void {
    if (!this.#drops) this.write(frame.bytes)
    if (frame.type === frameType.header) this.#contentLeft = contentBytes(frame)
    else this.#contentLeft = (this.#contentLeft ?? 0) - frame.payload.length
    this.#ended()
  }

  /** Bytes of this channel, behind what is delayed. */
  write(bytes: Buffer, delayMs = 0): void {
    if (delayMs === 0 && this.#delayed.length === 0) return this.#out(bytes)
    const behindMs = this.#delayed.at(-1)?.dueMs ?? 0
    this.#delayed.push({ bytes, dueMs: Math.max(behindMs, performance.now() + delayMs) })
    this.#timer ??= setTimeout(() => this.#flush(), delayMs)
  }

  /** Everything from the next frame on comes that much later. */
  delay(ms: number): void {
    this.write(Buffer.alloc(0), ms)
  }

  /** Runs at once, or when the content that is under way is complete. */
  between(then: () => void): void {
    this.#afterContent.push(then)
    this.#ended()
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#delayed.length = 0
  }

  #ended(): void {
    if (this.#contentLeft !== 0) return
    for (const then of this.#afterContent.splice(0)) then()
  }

  #flush(): void {
    this.#timer = null
    for (let next = this.#delayed[0]; next !== undefined; next = this.#delayed[0]) {
      const leftMs = next.dueMs - performance.now()
      if (leftMs > 0) {
        this.#timer = setTimeout(() => this.#flush(), Math.ceil(leftMs))
        return
      }
      this.#out(next.bytes)
      this.#delayed.shift()
    }
  }
}
