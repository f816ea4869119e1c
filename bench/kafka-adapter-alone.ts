import { noCrashes, systemClock, systemRandom } from 'holdfast'
import type { DeliverySink, Subscription, Topology } from 'holdfast'

import { type Filled, reading } from './kafka-filled.ts'
import { GROUP, TOPIC, topics } from './kafka-place.ts'
import type { Contender } from './measure.ts'
import type { Order } from './payload.ts'
import type { Tally } from './tally.ts'

/** What a consumer holds by default. */
const HELD = { messages: 512, bytes: 67_108_864 }
const GRACE_MS = 10_000

/**
 * The adapter without the core: deliveries are decoded and acknowledged as they come. What holdfast
 * takes beyond it is the core's: lanes, order per key, starting handlers, settling.
 */
export function adapterAlone(filled: Filled): Contender {
  return reading('its adapter alone', filled, (tally) => start(filled, tally))
}

async function start({ place, topic }: Filled, tally: Tally): Promise<() => Promise<void>> {
  const broker = place.broker()
  const { signal } = new AbortController()
  const emit = Object.assign((): void => undefined, { wants: () => false })
  await broker.open({ clock: systemClock, random: systemRandom, crash: noCrashes, emit, signal })
  await broker.provision(topologyOf(topic.ordering), 'create')
  const asked: Subscription = {
    topics: [TOPIC],
    group: GROUP,
    ordering: topic.ordering,
    from: 'earliest',
    maxHeld: HELD,
  }
  const sink: DeliverySink = {
    deliver: (_, batch) => {
      for (const delivery of batch) {
        const { body } = delivery.envelope
        if (body !== null) tally.handle(topic.codec.decode(body) as Order)
        delivery.ack()
      }
    },
    revoking: async () => undefined,
    lost: () => undefined,
    ended: (error) => error && tally.fail(error),
  }
  await broker.receive(asked, sink)
  return () => broker.close(systemClock.now() + GRACE_MS)
}

function topologyOf(ordering: Subscription['ordering']): Topology {
  const { groups = [], partitions = null, retryLevelsMs = [] } = topics[TOPIC]
  return { topics: [{ name: TOPIC, ordering, groups, partitions, retryLevelsMs }] }
}
