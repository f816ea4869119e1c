import type { Capabilities } from '../../src/contract/capabilities.ts'
import type { DriverCaps } from './driver.ts'
import type { Resolved } from './options.ts'
import { DEFAULT_MAX_MESSAGE_BYTES, type TopicLayout } from './topics.ts'

/** Deliveries that one receiver holds at most. */
const MOST_HELD = 10_000
/** Places that are not done which certainly fit beside a committed offset. */
const MOST_HOLES = 1_400

/** Kafka sets no limit; a group that stands still for longer is looked after by somebody. */
const LONGEST_HOLD_MS = 24 * 3_600_000
/** Key, headers and framing of a usual message; what does not fit is found out before it is sent. */
const OVERHEAD_BYTES = 4_096

/** What Kafka keeps through these clients. `layoutOf`: what is known of a topic of ours at the moment. */
export function capabilitiesOf(
  caps: { readonly producer: DriverCaps; readonly consumer: DriverCaps },
  { maxBodyBytes }: Pick<Resolved, 'maxBodyBytes'>,
  layoutOf: (topic: string) => TopicLayout | null,
): Capabilities {
  const { consumer } = caps
  // What it publishes in a transaction goes over the consumer's own connections.
  const isFenced = consumer.txn === 'fenced'
  const { whyNotFenced } = consumer
  const limitOf = (topic: string): number => {
    const { maxMessageBytes } = layoutOf(topic) ?? { maxMessageBytes: DEFAULT_MAX_MESSAGE_BYTES }
    const fitting = Math.max(1, maxMessageBytes - OVERHEAD_BYTES)
    return maxBodyBytes === null ? fitting : Math.min(maxBodyBytes, fitting)
  }
  return Object.freeze<Capabilities>({
    ordering: ['key', 'partition', 'none'] as const,
    keyRunsInOneSend: true,
    retryDelay: 'levels',
    attemptCount: 'header',
    atomicPublish: isFenced ? 'prefix' : 'none',
    ...(isFenced || whyNotFenced === undefined ? {} : { whyNotAtomic: whyNotFenced }),
    pause: consumer.partitionPause ? 'source' : 'all',
    hold: { maxMs: LONGEST_HOLD_MS, maxMessages: MOST_HELD, isolation: 'key' as const },
    progress: consumer.commitMetadata
      ? { outOfOrder: 'encoded' as const, maxHoles: MOST_HOLES }
      : { outOfOrder: 'none' as const, maxHoles: MOST_HELD },
    headers: { duplicate: true, binary: true, null: true },
    tombstones: true,
    scheduledSend: null,
    reply: false,
    limits: (topic: string) => ({ maxBodyBytes: limitOf(topic) }),
  })
}
