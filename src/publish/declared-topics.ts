import type { Capabilities, Ordering } from '../contract/capabilities.ts'
import { CapabilityError, OptionError } from '../contract/errors.ts'
import type { Envelope } from '../contract/message.ts'
import { checkedTopicName } from '../contract/names.ts'
import { checkObject } from '../contract/option.ts'
import {
  DEFAULT_RETRY_LEVELS_MS,
  resolveTopicSettings,
  type TopicSettings,
  type TopicTopology,
  type TopologyMode,
} from '../contract/topology.ts'
import type { Session } from '../send/session.ts'

/** The topics a publisher or relay declares, as options say and as publishing meets them. */
export class DeclaredTopics {
  readonly #settings: ReadonlyMap<string, TopicSettings>
  readonly #mode: TopologyMode
  readonly #orderings = new Map<string, Ordering>()

  constructor(settings: ReadonlyMap<string, TopicSettings>, mode: TopologyMode) {
    this.#settings = settings
    this.#mode = mode
  }

  /** Remembers what a topic orders by; two that share a name have to agree. */
  met(name: string, ordering: Ordering): void {
    const known = this.#orderings.get(name)
    if (known === ordering) return
    if (known !== undefined) {
      throw new OptionError(
        `ordering of topic "${name}"`,
        ordering,
        `'${known}', as published before`,
      )
    }
    this.#orderings.set(name, ordering)
  }

  /**
   * Sees to it that the broker has the topic with its declared groups. Rejects with a
   * `CapabilityError` when it cannot keep the topic's order. A topic without declared groups is left
   * to whoever declares them: until then its messages reach nobody, and are refused as unroutable.
   * Where nobody `met` the topic, as in a relay, its `first` envelope says whether it is ordered.
   */
  async prepare(name: string, first: Envelope, session: Session): Promise<void> {
    const capabilities = await session.ready()
    const ordering = this.#orderings.get(name)
    if (ordering !== undefined) checkOrdering(name, ordering, capabilities)
    const settings = this.#settings.get(name)
    if (settings === undefined) return
    const mode = settings.groups === undefined ? 'none' : this.#mode
    await session.provision([topologyOf(name, ordering ?? orderingOf(first), settings)], mode)
  }
}

/** The option's topics, checked; throws an error that names the topic and what is wrong with it. */
export function resolveTopics(
  given: Readonly<Record<string, TopicSettings>> = {},
): ReadonlyMap<string, TopicSettings> {
  checkObject('topics', given)
  const topics = new Map<string, TopicSettings>()
  for (const [name, settings] of Object.entries(given)) {
    topics.set(checkedTopicName(name), resolveTopicSettings(`topics.${name}`, settings))
  }
  return topics
}

function topologyOf(name: string, ordering: Ordering, settings: TopicSettings): TopicTopology {
  return {
    name,
    groups: settings.groups ?? [],
    partitions: settings.partitions ?? null,
    ordering,
    retryLevelsMs: settings.retryLevelsMs ?? DEFAULT_RETRY_LEVELS_MS,
  }
}

/** Only messages of ordered topics have an order key; whether that is their own or their partition's makes none. */
function orderingOf({ orderKey }: Envelope): Ordering {
  return orderKey === null ? 'none' : 'key'
}

function checkOrdering(name: string, ordering: Ordering, capabilities: Capabilities): void {
  if (ordering === 'none' || capabilities.ordering.includes(ordering)) return
  throw new CapabilityError(
    `topic "${name}" is ordered by ${ordering}, which this broker does not keep; it keeps: ${capabilities.ordering.join(', ')}`,
    { topic: name },
  )
}
