import { EventEmitter } from 'node:events'

import * as amqplib from 'amqplib'
import { describe, expect, it } from 'vitest'

import {
  FLUSH,
  loadAmqplib,
  partsOf,
  type ChannelModel,
  type ConfirmChannel,
} from '../../../adapters/rabbitmq/client.ts'
import { corkFlushes } from '../../../adapters/rabbitmq/cork.ts'
import type { Outgoing } from '../../../adapters/rabbitmq/outgoing.ts'
import { bareConfirms } from '../../../adapters/rabbitmq/publish-writer.ts'
import { HoldfastError } from '../../../src/contract/errors.ts'
import { sharedNode } from '../../brokers/shared-node.ts'

const message: Outgoing = {
  isPlain: true,
  exchange: '',
  routingKey: 'q',
  mandatory: true,
  content: Buffer.from('x'),
  options: {
    persistent: true,
    deliveryMode: 2,
    mandatory: true,
    messageId: 'm',
    contentType: undefined,
    headers: { a: 'b' },
  },
}

describe('loading amqplib', () => {
  it('names the install command when the package is missing', async () => {
    const missing = loadAmqplib(() => Promise.reject(new Error('not found')))
    await expect(missing).rejects.toThrow(HoldfastError)
    await expect(loadAmqplib(() => Promise.reject(new Error('x')))).rejects.toThrow(
      /npm install amqplib/,
    )
  })
})

describe('the insides of amqplib', () => {
  it('are where they are known to be, in the version that is installed', async () => {
    const model = await amqplib.connect(sharedNode().url())
    const { stream, muxer, isOver } = partsOf(model)
    expect([stream === null, muxer === null, isOver]).toEqual([false, false, false])
    const channel = await model.createConfirmChannel()
    bareConfirms(channel)
    expect(channel.listenerCount('ack')).toBe(0)
    await model.close()
    expect(partsOf(model).isOver).toBe(true)
  })

  it('are done without when they are not: confirms come by events all the same', async () => {
    const model = await amqplib.connect(sharedNode().url())
    const channel = await model.createConfirmChannel()
    const { queue } = await channel.assertQueue('', { exclusive: true })
    // As a later version might look: the same public interface, none of the insides.
    const plain: ConfirmChannel = Object.create(channel, {
      unconfirmed: { value: undefined },
      sendMessage: { value: undefined },
    })
    const published: string[] = []
    Object.defineProperty(plain, 'publish', {
      value: (...given: Parameters<ConfirmChannel['publish']>) => {
        published.push(given[1])
        return channel.publish(...given)
      },
    })
    const writer = bareConfirms(plain)
    const acked = new Promise<number>((resolve) =>
      channel.on('ack', ({ deliveryTag }) => resolve(deliveryTag)),
    )
    writer.write({ ...message, routingKey: queue })
    writer.flush()
    expect([await acked, published]).toEqual([1, [queue]])
    const got = await channel.get(queue)
    expect(got && got.properties).toMatchObject({ messageId: 'm', deliveryMode: 2 })
    await model.close()
  })
})

describe('writing all frames of a turn at once', () => {
  function connection(insides: object): ChannelModel {
    return Object.assign(new EventEmitter(), { connection: insides }) as unknown as ChannelModel
  }

  it('holds the socket back while they are flushed, also when that throws', () => {
    const steps: string[] = []
    const step = (name: string) => () => void steps.push(name)
    const muxer = {
      [FLUSH]: () => {
        steps.push('flush')
        if (steps.length > 3) throw new Error('broken')
      },
    }
    const stream = { cork: step('cork'), uncork: step('uncork') }
    expect(corkFlushes(partsOf(connection({ muxer, stream })))).toBe(true)
    const flush = (): void => muxer[FLUSH]()
    flush()
    expect(flush).toThrow('broken')
    expect(steps).toEqual(['cork', 'flush', 'uncork', 'cork', 'flush', 'uncork'])
  })

  it('changes nothing where they are written in another way', () => {
    expect(corkFlushes(partsOf(connection({})))).toBe(false)
    expect(corkFlushes(partsOf(connection({ muxer: {}, stream: { cork: () => 0 } })))).toBe(false)
  })
})
