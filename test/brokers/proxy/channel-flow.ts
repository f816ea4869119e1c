import { frameType, type Frame } from './amqp-frames.ts'
import { contentBytes } from './amqp-methods.ts'
import { DelayLine } from './delay-line.ts'

/**
 * One direction of one channel: which content belongs to which method, what is dropped with its
 * method, and what waits behind a delayed frame.
 */
export class ChannelFlow {
  readonly #line: DelayLine
  readonly #afterContent: (() => void)[] = []
  #contentLeft: number | null = 0
  #drops = false

  constructor(out: (bytes: Buffer) => void) {
    this.#line = new DelayLine(out)
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
  write(bytes: Buffer): void {
    this.#line.write(bytes)
  }

  /** Everything from the next frame on comes that much later. */
  delay(ms: number): void {
    this.#line.delay(ms)
  }

  /** Runs at once, or when the content that is under way is complete. */
  between(then: () => void): void {
    this.#afterContent.push(then)
    this.#ended()
  }

  stop(): void {
    this.#line.stop()
  }

  #ended(): void {
    if (this.#contentLeft !== 0) return
    for (const then of this.#afterContent.splice(0)) then()
  }
}
