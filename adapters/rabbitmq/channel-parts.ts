import type { Deadline, DeliverySink, Source } from '../../src/contract/broker.ts'
import type { Ordering } from '../../src/contract/capabilities.ts'
import type { Clock } from '../../src/contract/clock.ts'
import type { HoldfastError } from '../../src/contract/errors.ts'
import type { Emit } from '../../src/contract/events.ts'
import type { Destination } from '../../src/contract/message.ts'
import { Backlog } from './backlog.ts'
import type { Channel } from './client.ts'
import type { ConsumerChannel } from './consumer-channel.ts'
import { ConsumerSwitch, type ConsumerTerms } from './consumer-switch.ts'
import type { Resolved } from './options.ts'
import type { Room } from './room.ts'
import { writerOn } from './settle-writer.ts'
import { Settles, type SettleWriter } from './settles.ts'
import type { Wire } from './wire.ts'

/** What the channels of one queue have in common. */
export interface ChannelShare {
  readonly clock: Clock
  readonly emit: Emit
  readonly sink: DeliverySink
  readonly room: Room
  readonly to: Destination
  readonly ordering: Ordering
  /** The queue hands out to one consumer at a time, so leaving it lets another go on behind what is held here. */
  readonly isSingleActive: boolean
  /** How the queue delays retries itself; `null`: it does not. */
  readonly nativeRetry: Resolved['nativeRetry']
  /** Whether anything may be handed over now. */
  readonly hands: () => boolean
  /** There is something to hand over and no room. */
  readonly starved: (channel: ConsumerChannel) => void
  /** Called once, outside amqplib, when the channel is over. */
  readonly over: (channel: ConsumerChannel) => void
}

/** Why a channel ended. `by` us: asked for, and told to nobody. */
export interface ChannelEnd {
  readonly by: 'us' | 'broker' | 'wire'
  readonly error: HoldfastError
}

/** What one life of a consuming channel works with. */
export interface ChannelParts {
  readonly source: Source
  readonly share: ChannelShare
  readonly terms: ConsumerTerms
  readonly wire: Wire
  readonly channel: Channel
  readonly consumer: ConsumerSwitch
  readonly writer: SettleWriter
  readonly settles: Settles
  /** Messages that came and wait here for room or the end of a pause. */
  readonly resting: Backlog
}

/** Opens a channel, on which nothing is consumed yet. Rejects with what kept it from opening. */
export async function openParts(
  wire: Wire,
  share: ChannelShare,
  terms: ConsumerTerms,
  source: Source,
  deadline: Deadline,
): Promise<ChannelParts> {
  const channel = await wire.channel(deadline)
  const writer = writerOn(channel)
  return {
    ...{ source, share, terms, wire, channel, writer },
    consumer: new ConsumerSwitch(wire, channel, terms),
    settles: new Settles(writer, share.clock),
    resting: new Backlog(),
  }
}

/**
 * Settles that may not be at the broker, at most: it would not have delivered what it did, had more than
 * a prefetch been open there.
 */
export function unconfirmedOf({ settles, resting, terms }: ChannelParts): number {
  const open = settles.held + resting.size
  return Math.min(settles.unconfirmed, Math.max(0, terms.prefetch - open))
}

/** Resolves when every settle written before is at the broker. Rejects when that cannot be known. */
export async function confirmSettles({
  settles,
  wire,
  channel,
  terms,
}: ChannelParts): Promise<void> {
  settles.write()
  if (settles.unconfirmed === 0) return
  const { mark } = settles
  const { queue, prefetch } = terms
  // Frames of a channel are worked off in order, so any answer after the settles confirms them.
  await wire.rpc(`flushing settles of queue "${queue}"`, () => channel.prefetch(prefetch))
  settles.confirm(mark)
}
