import type { Deadline } from '../contract/broker.ts'
import { ClosedError } from '../contract/errors.ts'

/** A sender or receiver of something that is open. */
export interface Closable {
  close(deadline: Deadline): Promise<void>
}

/** How something that was opened ends. */
export interface Ending<Opened> {
  /** After receivers and senders. */
  readonly end: (opened: Opened) => Promise<void>
  /** Called first when it is not open yet, so that opening need not be waited for. */
  readonly giveUp?: () => void
}

/**
 * Opens once for all who ask, closes once, and can be opened again after that: a consumer that could
 * not start may try again with the same broker.
 */
export class Lifetime<Opened> {
  /** Closed with it, these first. */
  readonly receivers: Set<Closable> = new Set()
  /** Closed after the receivers, whose last settles may need them. */
  readonly senders: Set<Closable> = new Set()
  readonly #what: string
  #opening: Promise<Opened> | null = null
  #opened: Opened | null = null
  #closing: Promise<void> | null = null

  /** `what` is closed, says the error of those who come too early or too late. */
  constructor(what: string) {
    this.#what = what
  }

  /** What is open. Throws a `ClosedError` before and after. */
  here(): Opened {
    if (this.#opened === null) throw new ClosedError(this.#what)
    return this.#opened
  }

  /** Begins when nobody has; waits for a close that is under way. What failed may be tried again. */
  async open(begin: () => Promise<Opened>): Promise<Opened> {
    if (this.#closing !== null) await this.#afresh(this.#closing)
    this.#opening ??= this.#open(begin)
    const opening = this.#opening
    try {
      return await opening
    } catch (error) {
      if (this.#opening === opening) this.#opening = null
      throw error
    }
  }

  /** Closes receivers, then senders, then what was opened, also what is still opening. Idempotent. */
  close(deadline: Deadline, ending: Ending<Opened>): Promise<void> {
    this.#closing ??= this.#close(deadline, ending)
    return this.#closing
  }

  async #open(begin: () => Promise<Opened>): Promise<Opened> {
    this.#opened = await begin()
    return this.#opened
  }

  async #afresh(closing: Promise<void>): Promise<void> {
    await closing.catch(() => undefined)
    if (this.#closing !== closing) return
    this.#closing = null
    this.#opening = null
    this.receivers.clear()
    this.senders.clear()
  }

  async #close(deadline: Deadline, { end, giveUp }: Ending<Opened>): Promise<void> {
    if (this.#opened === null) giveUp?.()
    const opened = (await this.#opening?.catch(() => null)) ?? null
    if (opened === null) return
    await Promise.allSettled([...this.receivers].map((receiver) => receiver.close(deadline)))
    await Promise.allSettled([...this.senders].map((sender) => sender.close(deadline)))
    this.#opened = null
    await end(opened)
  }
}
