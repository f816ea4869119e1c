import { hasMethod, type ConfirmChannel } from './client.ts'
import type { Outgoing } from './outgoing.ts'
import { PublishFrames } from './publish-frames.ts'

/** Writes messages. What was written is on its way with `flush` at the latest. */
export interface Writer {
  /** Throws when nothing was written, and only then. */
  write(message: Outgoing): void
  flush(): void
}

/** The private parts of a confirm channel, as far as this version of amqplib has them. */
interface ConfirmParts {
  readonly unconfirmed?: unknown
  readonly sendMessage?: unknown
  readonly ch?: unknown
  readonly connection?: unknown
}

/** Where a channel's frames wait for the socket. */
interface Slot {
  readonly channel: unknown
  readonly buffer: { write(frames: Buffer): unknown }
}

/** The part of amqplib's connection that frames are written to; `null` where it is not the known one. */
interface FrameParts {
  readonly number: number
  readonly frameMax: number
  /** Its own while the channel is open. */
  readonly slots: readonly (Slot | null)[]
  /** Says that a heartbeat is not needed now. */
  readonly sent: () => void
}

/**
 * Takes amqplib's own book of unconfirmed messages out of a confirm channel: it leaks (its window is
 * never trimmed after mixed acks) and one throwing callback loses the others. Whoever calls this keeps
 * the book itself, by the `ack` and `nack` events. Without the known insides the channel publishes as
 * it is: then amqplib keeps its book too, which costs memory and time and nothing else.
 */
export function bareConfirms(channel: ConfirmChannel): Writer {
  const { unconfirmed, sendMessage } = channel as unknown as ConfirmParts
  if (!Array.isArray(unconfirmed) || typeof sendMessage !== 'function') {
    return writerBy((message) => {
      const { exchange, routingKey, content, options } = message
      channel.publish(exchange, routingKey, content, options as object)
    })
  }
  channel.removeAllListeners('ack')
  channel.removeAllListeners('nack')
  // Asked for each time: amqplib replaces it by one that throws when the channel closes.
  const open = channel as unknown as {
    sendMessage(fields: object, properties: object, content: Buffer): unknown
  }
  const each = (message: Outgoing): void =>
    void open.sendMessage(message, message.options, message.content)
  const parts = framePartsOf(channel)
  return parts === null ? writerBy(each) : framesBy(channel, parts, each)
}

/** Everything leaves by itself. */
function writerBy(write: (message: Outgoing) => void): Writer {
  return { write, flush: () => undefined }
}

/** Many messages at once, where a message is made of what all are; in one order with what is not. */
function framesBy(
  channel: ConfirmChannel,
  { number, frameMax, slots, sent }: FrameParts,
  each: (message: Outgoing) => void,
): Writer {
  const frames = new PublishFrames(number, frameMax, (bytes) => {
    const slot = slots[number]
    if (slot?.channel !== channel) return
    sent()
    slot.buffer.write(bytes)
  })
  return {
    write: (message) => {
      // Closed: amqplib's own says so.
      if (slots[number]?.channel === channel && frames.add(message)) return
      frames.flush()
      each(message)
    },
    flush: () => frames.flush(),
  }
}

function framePartsOf(channel: ConfirmChannel): FrameParts | null {
  const { ch: number, connection } = channel as unknown as ConfirmParts
  if (typeof connection !== 'object' || connection === null || typeof number !== 'number')
    return null
  const { channels, frameMax, sentSinceLastCheck } = connection as Record<string, unknown>
  if (!Array.isArray(channels) || typeof frameMax !== 'number') return null
  const slot = channels[number] as Partial<Slot> | null | undefined
  if (slot?.channel !== channel || !hasMethod(slot.buffer, 'write')) return null
  if (typeof sentSinceLastCheck !== 'boolean') return null
  const sent = (): void => void Object.assign(connection, { sentSinceLastCheck: true })
  return { number, frameMax, slots: channels as (Slot | null)[], sent }
}
