import { EventEmitter } from 'node:events'

import { describe, expect, it } from 'vitest'

import { hearChannel } from '../../../adapters/rabbitmq/channel-events.ts'
import type { Channel } from '../../../adapters/rabbitmq/client.ts'

describe('hearing a channel', () => {
  it('takes a message for a consumer that was cancelled, where amqplib would end the channel', () => {
    const channel = new EventEmitter()
    // As amqplib's own listeners do for a tag they have forgotten.
    const forgotten = (): never => {
      throw new Error('Unknown consumer')
    }
    channel.on('delivery', forgotten)
    channel.on('cancel', forgotten)
    const heard: unknown[] = []
    hearChannel(channel as unknown as Channel, {
      message: (message) => heard.push(message),
      cancelled: () => heard.push('cancelled'),
      closed: (error) => heard.push(error?.message ?? 'closed'),
    })
    const late = { fields: { deliveryTag: 7 } }
    channel.emit('delivery', late)
    channel.emit('cancel', { consumerTag: 'c' })
    channel.emit('error', new Error('541'))
    channel.emit('close')
    expect(heard).toEqual([late, 'cancelled', '541'])
  })
})
