import type { Channel, ConsumeMessage } from './client.ts'

/** What happens on a channel with one consumer. Called inside amqplib: must not throw, nor run anybody else's code. */
export interface ChannelEvents {
  /** A message, also one that comes after its consumer was cancelled. */
  message(message: ConsumeMessage): void
  /** The broker ended the consumer by itself. */
  cancelled(): void
  /** The channel is over; with the broker's error when it was the broker who closed it. */
  closed(error: Error | null): void
}

/**
 * Hears a channel itself instead of through amqplib's book of consumers: that forgets a consumer when
 * it is cancelled, and the next message for it, which quorum queues send even after cancel-ok, would
 * end the channel with everything on it.
 */
export function hearChannel(channel: Channel, events: ChannelEvents): void {
  let error: Error | null = null
  channel.removeAllListeners('delivery')
  channel.removeAllListeners('cancel')
  channel.on('delivery', (message: ConsumeMessage) => events.message(message))
  channel.on('cancel', () => events.cancelled())
  channel.on('error', (cause: Error) => void (error = cause))
  channel.on('close', () => events.closed(error))
}
