import type { Receiver, Source } from '../contract/broker.ts'

/** Why intake as a whole stands still. */
export type PauseReason = 'user' | 'breaker' | 'stopping' | 'sources'

/** Keeps the receiver paused while anybody has a reason, and remembers reasons from before there is one. */
export class Pauses {
  readonly #reasons = new Set<PauseReason>()
  readonly #sources = new Set<Source>()
  #receiver: Receiver | null = null
  #perSource = true

  /** `perSource` false: the broker pauses everything or nothing. */
  attach(receiver: Receiver, perSource: boolean): void {
    this.#receiver = receiver
    this.#perSource = perSource
    if (this.#reasons.size > 0) receiver.pause()
  }

  has(reason: PauseReason): boolean {
    return this.#reasons.has(reason)
  }

  hold(reason: PauseReason): void {
    const isFirst = this.#reasons.size === 0
    this.#reasons.add(reason)
    if (isFirst) this.#receiver?.pause()
  }

  lift(reason: PauseReason): void {
    if (!this.#reasons.delete(reason) || this.#reasons.size > 0) return
    this.#receiver?.resume()
  }

  holdSource(source: Source): void {
    this.#sources.add(source)
    if (this.#perSource) this.#receiver?.pause([source])
    else this.hold('sources')
  }

  liftSource(source: Source): void {
    if (!this.#sources.delete(source)) return
    if (this.#perSource) this.#receiver?.resume([source])
    else if (this.#sources.size === 0) this.lift('sources')
  }

  /** The source is gone. */
  forget(source: Source): void {
    if (!this.#sources.delete(source) || this.#perSource) return
    if (this.#sources.size === 0) this.lift('sources')
  }
}
