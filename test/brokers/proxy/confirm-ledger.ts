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
  /** In the order of publishing, which is the order of the tags. */
  readonly #open = new Set<number>()
  readonly #marked = new Map<number, Mark>()
  readonly #held: { readonly tag: number; readonly word: Word; readonly mark: Mark }[] = []
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
    const covered = multiple ? this.#upTo(tag) : [tag]
    for (const one of covered) this.#open.delete(one)
    if (!covered.some((one) => this.#marked.has(one))) return null
    return covered.flatMap((one) => this.#pass(one, word))
  }

  /** Ends holding for that mark: the answers that came meanwhile. */
  release(mark: Mark): readonly Buffer[] {
    for (const [tag, of] of this.#marked) if (of === mark) this.#marked.delete(tag)
    const due = this.#held.filter((one) => one.mark === mark)
    this.#held.splice(0, this.#held.length, ...this.#held.filter((one) => one.mark !== mark))
    return due.map(({ tag, word }) => encodeConfirm(this.#channel, word, tag))
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
    this.#marked.delete(tag)
    if (mark === undefined) return [encodeConfirm(this.#channel, word, tag)]
    if (mark.fate === 'hold') this.#held.push({ tag, word, mark })
    return []
  }
}
