import { systemClock, systemRandom } from '../src/contract/clock.ts'
import { UuidSource } from '../src/contract/uuid.ts'

import type { Contender } from './measure.ts'
import { withWorkers } from './workers.ts'

interface Waiting {
  readonly id: string
  readonly body: Uint8Array
  readonly resolve: (id: string) => void
}

/**
 * The least that a publisher by hand would do: encode, make an id, one promise a message, and one
 * answer for everything that was sent in a turn of the event loop. No check, no bound, no retry.
 */
class HandWrittenPublisher {
  readonly #ids = new UuidSource(systemClock, systemRandom)
  #waiting: Waiting[] = []

  publish(payload: unknown): Promise<string> {
    const body = Buffer.from(JSON.stringify(payload))
    const id = this.#ids.next()
    return new Promise((resolve) => {
      if (this.#waiting.push({ id, body, resolve }) === 1) setImmediate(() => this.#answer())
    })
  }

  #answer(): void {
    const answered = this.#waiting
    this.#waiting = []
    for (const { id, resolve } of answered) resolve(id)
  }
}

/** The yardstick of the core: what every ratio of CPU per message is taken against. */
export function handWrittenLoop(payloads: readonly unknown[], concurrency: number): Contender {
  return {
    name: 'hand-written loop',
    durability: 'none (no broker)',
    messages: payloads.length,
    prepare: async () => {
      const publisher = new HandWrittenPublisher()
      return {
        run: () =>
          withWorkers(concurrency, payloads.length, (at) => publisher.publish(payloads[at])),
        close: async () => undefined,
      }
    },
  }
}
