import type { Envelope } from '../../src/contract/message.ts'
import { destinationName } from './refusals.ts'

/** The keys of one send of which a message ended other than confirmed: nothing may follow it. */
export class FailedKeys {
  readonly #applies: boolean
  #keys: Set<string> | null = null

  /** Where runs of one key are not handed over in one send, nothing is ever held back. */
  constructor(keyRunsInOneSend: boolean) {
    this.#applies = keyRunsInOneSend
  }

  add(envelope: Envelope): void {
    if (!this.#applies || envelope.orderKey === null) return
    this.#keys ??= new Set()
    this.#keys.add(nameOf(envelope))
  }

  has(envelope: Envelope): boolean {
    return this.#keys !== null && envelope.orderKey !== null && this.#keys.has(nameOf(envelope))
  }
}

function nameOf({ to, orderKey }: Envelope): string {
  return `${destinationName(to)} ${orderKey}`
}
