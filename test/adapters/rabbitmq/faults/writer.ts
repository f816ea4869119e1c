import { isHoldfastError, type ReliablePublisher, type Topic } from 'holdfast'

import { Parcels, type FaultStage, type Parcel } from './fault-stage.ts'

/** One producer: what it publishes, and what it was told, is written into the history. */
export class Writer {
  readonly #stage: FaultStage
  readonly #name: string
  readonly #publisher: ReliablePublisher<never>
  readonly #topic: Topic<Parcel>
  readonly #next = new Map<string, number>()
  #isClosed = false
  /** Codes of what did not end well, by message. */
  readonly codes: Map<string, string> = new Map<string, string>()
  /** Messages whose publish has begun. */
  begun = 0

  constructor(
    stage: FaultStage,
    name: string,
    publisher: ReliablePublisher<never>,
    topic: Topic<Parcel> = Parcels,
  ) {
    this.#stage = stage
    this.#name = name
    this.#publisher = publisher
    this.#topic = topic
  }

  /** Publishes the next message of the key; resolves, whatever becomes of it. */
  async send(key = '', pad?: string): Promise<void> {
    const { book } = this.#stage
    const n = this.#next.get(key) ?? 0
    this.#next.set(key, n + 1)
    this.begun++
    const id = `${this.#name}-${key}-${n}`
    const facts = { msgId: id, producer: this.#name, key, n }
    book.write(this.#name, 'publish', 'invoke', facts)
    try {
      const parcel = { id, key, ...(pad === undefined ? {} : { pad }) }
      const { possiblyDuplicated } = await this.#publisher.publish(this.#topic, parcel)
      if (possiblyDuplicated) book.marked.add(id)
      book.write(this.#name, 'publish', 'ok', facts)
    } catch (error) {
      if (!isHoldfastError(error)) throw error
      this.codes.set(id, error.code)
      this.#isClosed ||= error.code === 'closed'
      const isUnknown = error.name === 'OutcomeUnknownError'
      book.write(this.#name, 'publish', isUnknown ? 'info' : 'fail', facts)
    }
  }

  /** Publishes `count` messages, at most `inFlight` of them at a time. */
  async sendMany(count: number, inFlight: number, key: () => string = () => ''): Promise<void> {
    let left = count
    const loop = async (): Promise<void> => {
      while (left-- > 0) await this.send(key())
    }
    await Promise.all(Array.from({ length: inFlight }, loop))
  }

  /** Publishes from `loops` sides at once until told to stop, or the publisher was closed. */
  sendUntil(isOver: () => boolean, loops: number, key: () => string = () => ''): Promise<unknown> {
    const loop = async (): Promise<void> => {
      while (!isOver() && !this.#isClosed) await this.send(key())
    }
    return Promise.all(Array.from({ length: loops }, loop))
  }
}
