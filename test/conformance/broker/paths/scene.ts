import type { Broker } from '../../../../src/contract/broker.ts'
import { topic, type Topic } from '../../../../src/contract/topic.ts'
import { ReliableConsumer } from '../../../../src/consume/consumer.ts'
import type { TopicSettings } from '../../../../src/contract/topology.ts'
import type { SingleOptions } from '../../../../src/consume/options.ts'
import { constant } from '../../../../src/policy/backoff.ts'
import { ReliablePublisher } from '../../../../src/publish/publisher.ts'
import type { Case, Need } from '../../case.ts'
import { actThenEnd } from '../../problems.ts'
import type { BrokerHarness } from '../harness.ts'
import { Stage } from '../stage.ts'
import type { Witness } from './witness.ts'

/** What the cases publish: `n` is dense per key. */
export interface Item {
  readonly key: string
  readonly n: number
}

/** A topic of items, ordered by key where the case asks for that. */
export type Items = Topic<Item>

/** Options a case may give to a consumer; broker, topic and group are the scene's. */
export type ConsumerGiven<Tx> = Omit<
  SingleOptions<Items, Tx>,
  'broker' | 'topic' | 'group' | 'batch'
> & { readonly witness?: Witness }

type PublisherGiven = Partial<ConstructorParameters<typeof ReliablePublisher>[0]> & {
  readonly witness?: Witness
}

/** A stage with publishers and consumers on it, closed when the case ends. */
export class Scene extends Stage {
  readonly #parts: { close(options: { timeoutMs: number }): Promise<unknown> }[] = []

  /** A topic nobody else uses. What it needs on the broker is declared by who uses it. */
  items(ordering: 'key' | 'none' = 'none'): Items {
    return topic<Item>(this.topicName(), { key: ({ key }) => key, ordering })
  }

  /** Settings that publisher and consumer of a topic have to agree on. */
  settings(items: Items): Readonly<Record<string, TopicSettings>> {
    // Several consumers can keep the order of a key only where a broker may divide the topic.
    const partitions = items.ordering === 'key' ? { partitions: 4 } : {}
    return { [items.name]: { groups: ['a'], retryLevelsMs: [this.shortRetryMs], ...partitions } }
  }

  async publisher(
    items: Items,
    { witness, ...given }: PublisherGiven = {},
  ): Promise<ReliablePublisher> {
    const publisher = new ReliablePublisher({
      broker: await this.#broker(witness),
      topics: this.settings(items),
      deadlineMs: this.limitMs,
      retry: { attempts: 20, backoff: constant(20) },
      logging: 'silent',
      clock: this.clock,
      ...given,
    })
    this.#parts.push(publisher)
    return publisher
  }

  /** A consumer of group `a` that has started. Failed handlers are tried again after 20 ms. */
  async consumer<Tx = never>(
    items: Items,
    { witness, ...given }: ConsumerGiven<Tx>,
  ): Promise<ReliableConsumer<Items, Tx>> {
    const consumer = new ReliableConsumer<Items, Tx>({
      broker: await this.#broker(witness),
      topic: items,
      group: 'a',
      topics: this.settings(items),
      retry: { attempts: 5, backoff: constant(20) },
      logging: 'silent',
      clock: this.clock,
      ...given,
    })
    this.#parts.push(consumer)
    await this.within('start()', consumer.start())
    return consumer
  }

  override async end(): Promise<void> {
    const timeoutMs = this.limitMs
    const closed = this.#parts.map((part) => part.close({ timeoutMs }))
    await this.within('closing publishers and consumers', Promise.allSettled(closed))
    await super.end()
  }

  async #broker(witness: Witness | undefined): Promise<Broker> {
    const broker = await this.harness.connect()
    return witness === undefined ? broker : witness.around(broker)
  }
}

/** `each` items of every key, dealt out like cards, with numbers from `first`. */
export function deal(keys: readonly string[], each: number, first = 0): readonly Item[] {
  return Array.from({ length: each }, (_, n) => keys.map((key) => ({ key, n: first + n }))).flat()
}

/** Makes an end-to-end case of the broker suite. */
export function pathCase(
  name: string,
  needs: readonly Need<BrokerHarness>[],
  act: (scene: Scene) => Promise<void>,
): Case<BrokerHarness> {
  const run = (harness: BrokerHarness): Promise<void> => {
    const scene = new Scene(harness)
    return actThenEnd(
      () => act(scene),
      () => scene.end(),
    )
  }
  return { name, needs, run }
}
