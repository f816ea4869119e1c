import { encodeConfirm } from './amqp-methods.ts'

type Word = 'basic.ack' | 'basic.nack'

/** What becomes of the broker's word about some messages; held ones are released by the same object. */
export interface Mark {
  readonly fate: 'lose' | 'hold'
}

/**
 * Which publishes of one confirm channel the broker has not answered yet, and whose answer must not
 * reach the client. An answer for several messages at once is taken apart, so that only the marked
 * ones go without.
 */
export class ConfirmLedger {
  readonly #channel: number
  /** What the client waits for, in the order of publishing, which is the order of the tags. */
  readonly #open = new Set<number>()
  /** Those of them whose answer is kept from the client. */
  readonly #marked = new Map<number, Mark>()
  /** Those of them that the broker has answered. */
  readonly #held = new Map<number, Word>()
  #last = 0

  constructor(channel: number) {
    this.#channel = channel
  }

  /** Takes note of a publish; with a mark its answer is kept from the client. */
  published(mark: Mark | null): void {
    const tag = ++this.#last
    this.#open.add(tag)
    if (mark !== null) this.#marked.set(tag, mark)
  }

  /** The frames that go to the client in place of this answer; null: the answer as it is. */
  answered(word: Word, tag: number, multiple: boolean): readonly Buffer[] | null {
    // One that was kept back before is covered again: for the client it must not be.
    const covered = multiple ? this.#upTo(tag) : [tag]
    if (covered.some((one) => this.#marked.has(one))) {
      return covered.flatMap((one) => this.#pass(one, word))
    }
    for (const one of covered) this.#open.delete(one)
    return null
  }

  /** Ends holding for that mark: the answers that came meanwhile. */
  release(mark: Mark): readonly Buffer[] {
    const due: Buffer[] = []
    for (const [tag, of] of this.#marked) {
      if (of !== mark || mark.fate === 'lose') continue
      this.#marked.delete(tag)
      const word = this.#held.get(tag)
      if (word === undefined) continue
      this.#held.delete(tag)
      this.#open.delete(tag)
      due.push(encodeConfirm(this.#channel, word, tag))
    }
    return due
  }

  #upTo(tag: number): readonly number[] {
    const covered: number[] = []
    for (const one of this.#open) {
      if (tag !== 0 && one > tag) break
      covered.push(one)
    }
    return covered
  }

  #pass(tag: number, word: Word): readonly Buffer[] {
    const mark = this.#marked.get(tag)
    if (mark === undefined) {
      this.#open.delete(tag)
      return [encodeConfirm(this.#channel, word, tag)]
    }
    if (mark.fate === 'hold' && !this.#held.has(tag)) this.#held.set(tag, word)
    return []
  }
}
