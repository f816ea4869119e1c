import type { Channel, Message } from './client.ts'
import type { SettleWriter } from './settles.ts'

/** Settles as amqplib writes them; one object stands for every message, since only the tag is read. */
export function writerOn(channel: Channel): SettleWriter {
  const fields = { deliveryTag: 0 }
  const message = { fields } as unknown as Message
  const of = (tag: number): Message => {
    fields.deliveryTag = tag
    return message
  }
  return {
    ack: (tag, multiple) => channel.ack(of(tag), multiple),
    nack: (tag) => channel.nack(of(tag), false, true),
    reject: (tag) => channel.reject(of(tag), true),
  }
}
