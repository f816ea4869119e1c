import { OutcomeUnknownError, type HoldfastError } from '../contract/errors.ts'
import type { Envelope } from '../contract/message.ts'
import type { Sent, Ticket } from '../send/deliver.ts'
import type { SealedEnvelope } from '../send/seal.ts'
import { published, type BatchOutcome } from './published.ts'

/** What a batch needs of its publisher. */
export interface BatchContext {
  /** The sealed message at that index; throws what is wrong with it. */
  readonly seal: (index: number) => SealedEnvelope
  readonly offer: (index: number, envelope: Envelope, ticket: Ticket) => void
  /** How many of the batch may be outstanding at once. */
  readonly window: number
}

/**
 * Publishes a list in order, a window of it at a time, so that a long list never takes more of the
 * buffer than there is. Costs one promise for all of it.
 */
export class PublishBatch {
  /** Resolves with one outcome per message, in their order; never rejects. */
  readonly done: Promise<readonly BatchOutcome[]>
  readonly #context: BatchContext
  readonly #outcomes: BatchOutcome[]
  readonly #count: number
  #next = 0
  #ended = 0
  #filling = false
  #resolve: (outcomes: readonly BatchOutcome[]) => void = () => undefined

  constructor(count: number, context: BatchContext) {
    this.#context = context
    this.#count = count
    this.#outcomes = Array.from({ length: count })
    this.done = new Promise((resolve) => {
      this.#resolve = resolve
    })
  }

  start(): Promise<readonly BatchOutcome[]> {
    if (this.#count === 0) this.#resolve([])
    this.#fill()
    return this.done
  }

  ended(index: number, outcome: BatchOutcome): void {
    this.#outcomes[index] = outcome
    this.#ended++
    if (this.#ended === this.#count) this.#resolve(this.#outcomes)
    else this.#fill()
  }

  /** Not recursive: an end within `offer` only counts, and the loop goes on. */
  #fill(): void {
    if (this.#filling) return
    this.#filling = true
    while (this.#next < this.#count && this.#next - this.#ended < this.#context.window) {
      this.#offer(this.#next++)
    }
    this.#filling = false
  }

  #offer(index: number): void {
    try {
      const envelope = this.#context.seal(index)
      this.#context.offer(index, envelope, new Item(this, index, envelope))
    } catch (error) {
      this.ended(index, { status: 'refused', error: error as HoldfastError })
    }
  }
}

/** One message of a batch. */
class Item implements Ticket {
  readonly #batch: PublishBatch
  readonly #index: number
  readonly #envelope: Envelope

  constructor(batch: PublishBatch, index: number, envelope: Envelope) {
    this.#batch = batch
    this.#index = index
    this.#envelope = envelope
  }

  confirmed(sent: Sent): void {
    const confirmed = published(this.#envelope, sent)
    this.#batch.ended(this.#index, { status: 'confirmed', published: confirmed })
  }

  failed(error: HoldfastError): void {
    const outcome: BatchOutcome =
      error instanceof OutcomeUnknownError
        ? { status: 'unknown', error }
        : { status: 'refused', error }
    this.#batch.ended(this.#index, outcome)
  }
}
