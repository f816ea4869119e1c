import { EventEmitter } from 'node:events'

import { describe, expect, it } from 'vitest'

import type { ChannelShare } from '../../../adapters/rabbitmq/channel-parts.ts'
import type { Channel } from '../../../adapters/rabbitmq/client.ts'
import { ConsumerChannel } from '../../../adapters/rabbitmq/consumer-channel.ts'
import { ConsumerSwitch } from '../../../adapters/rabbitmq/consumer-switch.ts'
import { Room } from '../../../adapters/rabbitmq/room.ts'
import type { Wire } from '../../../adapters/rabbitmq/wire.ts'
import type { Delivery } from '../../../src/contract/broker.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'

const terms = { queue: 'q', prefetch: 10, timeoutMs: null }

/** A channel that answers at once, but closes when it is told to. */
class FakeChannel extends EventEmitter {
  readonly asked: string[] = []
  closing: () => void = () => undefined

  async prefetch(): Promise<void> {}

  async consume(): Promise<{ consumerTag: string }> {
    this.asked.push('consume')
    return { consumerTag: 'c' }
  }

  async cancel(): Promise<void> {
    this.asked.push('cancel')
  }

  close(): Promise<void> {
    return new Promise((resolve) => void (this.closing = resolve))
  }

  ack(): void {}

  comes(deliveryTag: number): void {
    const properties = { headers: {} }
    this.emit('delivery', { fields: { deliveryTag }, properties, content: Buffer.from('12345') })
  }
}

function wireOf(channel: FakeChannel): Wire {
  return {
    channel: async () => channel as unknown as Channel,
    onClose: () => () => undefined,
    rpc: (_what: string, work: () => Promise<unknown>) => work(),
  } as unknown as Wire
}

function shareOf(clock: VirtualClock, room: Room, came: Delivery[]): ChannelShare {
  return {
    ...{ clock, room, emit: Object.assign(() => undefined, { wants: () => false }) },
    sink: { deliver: (_source: unknown, batch: readonly Delivery[]) => void came.push(...batch) },
    to: { kind: 'group', topic: 't', group: 'q', delayMs: 0 },
    ...{ ordering: 'key', isSingleActive: true, nativeRetry: null },
    ...{ hands: () => true, starved: () => undefined, over: () => undefined },
  } as unknown as ChannelShare
}

describe('a consuming channel', () => {
  it('gives the place of each delivery back once, whenever it is settled', async () => {
    const clock = new VirtualClock()
    const room = new Room({ messages: 3, bytes: 1_000 }, () => undefined)
    const channel = new FakeChannel()
    const came: Delivery[] = []
    const share = shareOf(clock, room, came)
    const source = { name: 'q', epoch: 1 }
    const opened = await ConsumerChannel.open(wireOf(channel), share, terms, source, 1_000)
    for (const tag of [1, 2, 3]) channel.comes(tag)
    await clock.settle()
    expect(came).toHaveLength(3)
    came[0]!.ack()
    const closed = opened.close(clock.now() + 1_000)
    await clock.advance(200)
    expect(opened.end).not.toBeNull()
    came[1]!.ack()
    channel.closing()
    await closed
    came[2]!.ack()
    const places = [1, 2, 3, 4].filter(() => room.take(1))
    expect(places).toEqual([1, 2, 3])
  })
})

describe('the switch of a consumer', () => {
  it('turns off what was turned on twice', async () => {
    const channel = new FakeChannel()
    const consumer = new ConsumerSwitch(wireOf(channel), channel as unknown as Channel, terms)
    await consumer.turn(true)
    await consumer.turn(true)
    await consumer.turn(false)
    expect(channel.asked).toEqual(['consume', 'cancel'])
  })
})
