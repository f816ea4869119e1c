/** Bytes in their order, and behind what is delayed all that follows. */
export class DelayLine {
  readonly #out: (bytes: Buffer) => void
  readonly #delayed: { readonly bytes: Buffer; readonly dueMs: number }[] = []
  #timer: NodeJS.Timeout | null = null

  constructor(out: (bytes: Buffer) => void) {
    this.#out = out
  }

  write(bytes: Buffer): void {
    if (this.#delayed.length === 0) this.#out(bytes)
    else this.#add(bytes, 0)
  }

  /** Everything written from now on comes that much later. */
  delay(ms: number): void {
    this.#add(Buffer.alloc(0), ms)
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#delayed.length = 0
  }

  #add(bytes: Buffer, delayMs: number): void {
    const behindMs = this.#delayed.at(-1)?.dueMs ?? 0
    this.#delayed.push({ bytes, dueMs: Math.max(behindMs, performance.now() + delayMs) })
    this.#timer ??= setTimeout(() => this.#flush(), delayMs)
  }

  #flush(): void {
    this.#timer = null
    for (let next = this.#delayed[0]; next !== undefined; next = this.#delayed[0]) {
      const leftMs = next.dueMs - performance.now()
      if (leftMs > 0) {
        this.#timer = setTimeout(() => this.#flush(), Math.ceil(leftMs))
        return
      }
      if (next.bytes.length > 0) this.#out(next.bytes)
      this.#delayed.shift()
    }
  }
}
