import type { Capabilities } from '../../src/contract/capabilities.ts'
import type { EventType, HoldfastEvent } from '../../src/contract/events.ts'
import { topic, type Topic } from '../../src/contract/topic.ts'
import { constant } from '../../src/policy/backoff.ts'
import type { PublisherOptions } from '../../src/publish/options.ts'
import { ReliablePublisher } from '../../src/publish/publisher.ts'
import { ScriptedBroker, type Answer } from '../support/scripted-broker.ts'
import { seededRandom } from '../support/seeded-random.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

/** What the tests publish. */
export interface Order {
  readonly customer: string
  readonly n: number
}

export const Orders: Topic<Order> = topic<Order>('orders', { key: ({ customer }) => customer })
export const Notes: Topic = topic('notes')

type Given<Tx> = Partial<PublisherOptions<Tx>> & {
  readonly capabilities?: Partial<Capabilities>
  readonly answer?: Answer | null
}

/** A publisher on a scripted broker in virtual time; retries wait 100 ms. */
export class Stage<Tx = unknown> {
  readonly clock: VirtualClock = new VirtualClock()
  readonly events: HoldfastEvent[] = []
  readonly broker: ScriptedBroker
  readonly publisher: ReliablePublisher<Tx>

  constructor({ capabilities, answer = null, ...given }: Given<Tx> = {}) {
    this.broker = new ScriptedBroker(this.clock, capabilities, answer)
    this.publisher = new ReliablePublisher<Tx>({
      broker: this.broker,
      topics: { orders: { groups: ['billing'] }, notes: { groups: [] } },
      retry: { backoff: constant(100) },
      logging: 'silent',
      on: (event) => this.events.push(event),
      clock: this.clock,
      random: seededRandom(),
      ...given,
    })
  }

  of<Type extends EventType>(type: Type): Extract<HoldfastEvent, { type: Type }>[] {
    return this.events.filter(
      (event): event is Extract<HoldfastEvent, { type: Type }> => event.type === type,
    )
  }

  /** Closes the publisher; what is armed then was leaked. */
  async leakedTimers(): Promise<number> {
    await this.clock.run(this.publisher.close({ timeoutMs: 1_000 }))
    await this.clock.settle()
    return this.clock.timers
  }
}
