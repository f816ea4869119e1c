import { afterEach, describe, expect, it } from 'vitest'

import { systemClock } from '../../../src/contract/clock.ts'
import { eventually } from '../../conformance/wait.ts'
import { encodeFrame, FrameReader, frameType, type Frame } from './amqp-frames.ts'
import {
  Arguments,
  encodeConfirm,
  encodeMethod,
  methodOf,
  short,
  shortString,
} from './amqp-methods.ts'
import { client, FarEnd, type End } from './far-end.ts'
import { FaultProxy } from './fault-proxy.ts'

const cleanUps: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).toReversed()) await cleanUp()
})

const soon = (what: () => string, condition: () => boolean): Promise<void> =>
  eventually(systemClock, 5_000, what, condition)

/** Both ends of one connection through a proxy, spoken for by hand. */
class Wire {
  readonly proxy: FaultProxy
  readonly client: End
  readonly broker: End

  constructor(proxy: FaultProxy, client: End, broker: End) {
    this.proxy = proxy
    this.client = client
    this.broker = broker
  }

  static async open(): Promise<Wire> {
    const far = await FarEnd.start()
    cleanUps.push(() => far.close())
    const proxy = await FaultProxy.start({ target: () => ({ host: '127.0.0.1', port: far.port }) })
    cleanUps.push(() => proxy.close())
    const near = await client(proxy.port)
    cleanUps.push(() => near.socket.destroy())
    near.socket.write(Buffer.from([...Buffer.from('AMQP'), 0, 0, 9, 1]))
    await soon(
      () => 'the preface did not arrive',
      () => far.ends[0]?.received.length === 8,
    )
    return new Wire(proxy, near, far.ends[0]!)
  }

  /** A channel in confirm mode. */
  async confirming(channel: number): Promise<void> {
    this.up(encodeMethod(channel, 'confirm.select', Buffer.from([0])))
    await this.arrived('confirm.select', this.broker)
    this.down(encodeMethod(channel, 'confirm.select-ok'))
    await this.arrived('confirm.select-ok', this.client)
  }

  up(...bytes: readonly Buffer[]): void {
    this.client.socket.write(Buffer.concat(bytes))
  }

  down(...bytes: readonly Buffer[]): void {
    this.broker.socket.write(Buffer.concat(bytes))
  }

  arrived(what: string, end: End): Promise<void> {
    return soon(
      () => `${what} is not among ${told(end).join(', ')}`,
      () => told(end).includes(what),
    )
  }
}

function framesOf(end: End): readonly Frame[] {
  return new FrameReader().push(end.received)
}

/** What came, as short names: `basic.ack 3`, `basic.publish orders`, `body 5`. */
function told(end: End): readonly string[] {
  return framesOf(end).map((frame) => {
    const method = methodOf(frame)
    if (method === 'basic.ack' || method === 'basic.nack') return toldConfirm(method, frame)
    if (method === 'basic.publish') return `basic.publish ${exchangeOf(frame)}`
    if (method === 'channel.close') return `channel.close ${new Arguments(frame).short()}`
    if (method !== null) return method
    return frame.type === frameType.body ? `body ${frame.payload.length}` : `type ${frame.type}`
  })
}

function toldConfirm(method: string, frame: Frame): string {
  const given = new Arguments(frame)
  return `${method} ${given.tag()}${given.bit() ? ' and before' : ''}`
}

function exchangeOf(frame: Frame): string {
  const given = new Arguments(frame)
  given.short()
  return given.shortString()
}

function content(channel: number, body: string): Buffer {
  const header = Buffer.alloc(14)
  header.writeUInt16BE(60)
  header.writeBigUInt64BE(BigInt(body.length), 4)
  const frames = [encodeFrame(frameType.header, channel, header)]
  if (body !== '') frames.push(encodeFrame(frameType.body, channel, Buffer.from(body)))
  return Buffer.concat(frames)
}

function publish(channel: number, exchange: string, body = 'hello'): Buffer {
  const args = [short(0), shortString(exchange), shortString('key'), Buffer.from([1])]
  return Buffer.concat([encodeMethod(channel, 'basic.publish', ...args), content(channel, body)])
}

function ackUpTo(channel: number, tag: number): Buffer {
  const args = Buffer.alloc(9)
  args.writeBigUInt64BE(BigInt(tag))
  args.writeUInt8(1, 8)
  return encodeMethod(channel, 'basic.ack', args)
}

function deliver(channel: number, consumer: string, body: string): Buffer {
  const tag = Buffer.alloc(8)
  tag.writeBigUInt64BE(1n)
  const rest = [Buffer.from([0]), shortString(''), shortString('q')]
  const args = [shortString(consumer), tag, ...rest]
  return Buffer.concat([encodeMethod(channel, 'basic.deliver', ...args), content(channel, body)])
}

function consume(channel: number, queue: string, consumer: string): Buffer {
  const args = [short(0), shortString(queue), shortString(consumer), Buffer.from([0, 0, 0, 0, 0])]
  return encodeMethod(channel, 'basic.consume', ...args)
}

const toOrders = { exchange: 'orders' }
const publishTo =
  ({ exchange }: { exchange: string }) =>
  (seen: { method: string; exchange: string | null }): boolean =>
    seen.method === 'basic.publish' && seen.exchange === exchange

describe('the frames of a connection', () => {
  it('pass whole, wherever the network cuts them', async () => {
    const wire = await Wire.open()
    const bytes = Buffer.concat([publish(1, 'orders'), publish(2, 'others', '')])
    for (const byte of bytes) {
      wire.up(Buffer.from([byte]))
      await new Promise(setImmediate)
    }
    await wire.arrived('basic.publish others', wire.broker)
    await soon(
      () => 'not all bytes came',
      () => wire.broker.received.length === bytes.length + 8,
    )
    expect(wire.broker.received.subarray(8).equals(bytes)).toBe(true)
  })

  it('end the connection when they are none', async () => {
    const wire = await Wire.open()
    const warned: string[] = []
    const listener = (warning: Error): void => void warned.push(warning.message)
    process.on('warning', listener)
    cleanUps.push(() => process.off('warning', listener))
    wire.up(Buffer.from([1, 0, 0, 0, 0, 0, 1, 7, 7]))
    await soon(
      () => 'it goes on',
      () => wire.client.ended !== null,
    )
    await soon(
      () => 'nobody was told',
      () => warned.some((text) => text.includes('not AMQP')),
    )
  })
})

describe('a rule', () => {
  it('drops as many frames as it is told, and counts them', async () => {
    const wire = await Wire.open()
    await wire.confirming(1)
    const rule = wire.proxy.rule('basic.ack', { do: 'drop' }, 2)
    for (const tag of [1, 2, 3]) wire.down(encodeConfirm(1, 'basic.ack', tag))
    await wire.arrived('basic.ack 3', wire.client)
    expect(told(wire.client)).toEqual(['confirm.select-ok', 'basic.ack 3'])
    expect(rule.fired).toBe(2)
  })

  it('drops a delivery with its content, of the queue it is about', async () => {
    const wire = await Wire.open()
    for (const [queue, tag] of [
      ['mine', 'c1'],
      ['other', 'c2'],
    ] as const) {
      wire.up(consume(1, queue, tag))
      await soon(
        () => 'basic.consume did not arrive',
        () => told(wire.broker).filter((one) => one === 'basic.consume').length > 0,
      )
      wire.down(encodeMethod(1, 'basic.consume-ok', shortString(tag)))
      await wire.arrived('basic.consume-ok', wire.client)
    }
    await soon(
      () => 'the second consumer did not start',
      () => told(wire.client).length === 2,
    )
    const rule = wire.proxy.rule(
      ({ method, queue }) => method === 'basic.deliver' && queue === 'mine',
      { do: 'drop' },
    )
    wire.down(deliver(1, 'c1', 'lost'), deliver(1, 'c2', 'kept!'))
    await wire.arrived('body 5', wire.client)
    expect(told(wire.client).slice(2)).toEqual(['basic.deliver', 'type 2', 'body 5'])
    expect(rule.fired).toBe(1)
  })

  it('delays a frame and what follows it on its channel, and no other channel', async () => {
    const wire = await Wire.open()
    wire.proxy.rule('basic.deliver', { do: 'delay', ms: 100 }, 1)
    const from = performance.now()
    wire.down(deliver(1, 'c', 'slow'), encodeConfirm(1, 'basic.ack', 1))
    wire.down(encodeConfirm(2, 'basic.ack', 2))
    await wire.arrived('basic.ack 1', wire.client)
    expect(performance.now() - from).toBeGreaterThanOrEqual(99)
    expect(told(wire.client)).toEqual([
      'basic.ack 2',
      'basic.deliver',
      'type 2',
      'body 4',
      'basic.ack 1',
    ])
  })

  it('resets the connection in place of a frame', async () => {
    const wire = await Wire.open()
    const rule = wire.proxy.rule('basic.publish', { do: 'reset' })
    wire.up(publish(1, 'orders'))
    await soon(
      () => 'no reset',
      () => wire.client.ended === 'reset' && wire.broker.ended === 'reset',
    )
    expect(rule.fired).toBe(1)
    expect(told(wire.broker)).toEqual(['type 0'])
  })
})

describe('the confirm of one message', () => {
  it('is lost alone, also when the broker answers for several at once', async () => {
    const wire = await Wire.open()
    await wire.confirming(1)
    const rule = wire.proxy.rule(publishTo(toOrders), { do: 'lose-confirm' }, 1)
    wire.up(publish(1, 'others'), publish(1, 'orders'), publish(1, 'orders'), publish(1, 'others'))
    await soon(
      () => 'not all were published',
      () => told(wire.broker).filter((one) => one.startsWith('basic.publish')).length === 4,
    )
    wire.down(ackUpTo(1, 3), encodeConfirm(1, 'basic.ack', 4))
    await wire.arrived('basic.ack 4', wire.client)
    expect(told(wire.client).slice(1)).toEqual(['basic.ack 1', 'basic.ack 3', 'basic.ack 4'])
    expect(rule.fired).toBe(1)
  })

  it('is held until the rule ends, and then told as it was', async () => {
    const wire = await Wire.open()
    await wire.confirming(1)
    const rule = wire.proxy.rule(publishTo(toOrders), { do: 'hold-confirm' })
    wire.up(publish(1, 'orders'), publish(1, 'others'), publish(1, 'orders'), publish(1, 'orders'))
    await soon(
      () => 'not all were published',
      () => rule.fired === 3,
    )
    wire.down(ackUpTo(1, 2), encodeConfirm(1, 'basic.nack', 3))
    await wire.arrived('basic.ack 2', wire.client)
    rule.heal()
    await wire.arrived('basic.nack 3', wire.client)
    wire.down(encodeConfirm(1, 'basic.ack', 4))
    await wire.arrived('basic.ack 4', wire.client)
    expect(told(wire.client).slice(1)).toEqual([
      'basic.ack 2',
      'basic.ack 1',
      'basic.nack 3',
      'basic.ack 4',
    ])
  })

  it('stays away when a later answer covers it once more', async () => {
    const wire = await Wire.open()
    await wire.confirming(1)
    wire.proxy.rule(publishTo(toOrders), { do: 'lose-confirm' }, 1)
    wire.up(publish(1, 'orders'), publish(1, 'others'), publish(1, 'others'))
    await soon(
      () => 'not all were published',
      () => told(wire.broker).filter((one) => one.startsWith('basic.publish')).length === 3,
    )
    wire.down(encodeConfirm(1, 'basic.ack', 1), ackUpTo(1, 3))
    await wire.arrived('basic.ack 3', wire.client)
    expect(told(wire.client).slice(1)).toEqual(['basic.ack 2', 'basic.ack 3'])
  })

  it('comes as the broker wrote it when no rule is about what it covers', async () => {
    const wire = await Wire.open()
    await wire.confirming(1)
    wire.proxy.rule(publishTo(toOrders), { do: 'lose-confirm' })
    wire.up(publish(1, 'others'), publish(1, 'others'), publish(1, 'orders'))
    await wire.arrived('basic.publish orders', wire.broker)
    wire.down(ackUpTo(1, 2))
    await wire.arrived('basic.ack 2 and before', wire.client)
  })
})

describe('an injected close of a channel', () => {
  it('comes after the message that caused it, and nothing but the answers is exchanged', async () => {
    const wire = await Wire.open()
    wire.proxy.rule('basic.publish', { do: 'close-channel', code: 404, text: 'NOT_FOUND' }, 1)
    wire.up(publish(1, 'orders'), publish(1, 'too late'))
    await wire.arrived('channel.close 404', wire.client)
    await wire.arrived('channel.close 200', wire.broker)
    wire.down(encodeConfirm(1, 'basic.ack', 1), encodeMethod(1, 'channel.close-ok'))
    wire.up(encodeMethod(1, 'channel.close-ok'), publish(2, 'other channel'))
    await wire.arrived('basic.publish other channel', wire.broker)
    expect(told(wire.broker)).toEqual([
      'type 0',
      'basic.publish orders',
      'type 2',
      'body 5',
      'channel.close 200',
      'basic.publish other channel',
      'type 2',
      'body 5',
    ])
    expect(told(wire.client)).toEqual(['channel.close 404'])
  })

  it('frees the number for a new channel, with confirms counted from 1', async () => {
    const wire = await Wire.open()
    await wire.confirming(1)
    wire.up(publish(1, 'others'))
    await wire.arrived('basic.publish others', wire.broker)
    wire.proxy.links[0]?.session?.closeChannels(() => true, 541, 'INTERNAL_ERROR')
    await wire.arrived('channel.close 541', wire.client)
    wire.up(encodeMethod(1, 'channel.close-ok'), encodeMethod(1, 'channel.open', shortString('')))
    await wire.arrived('channel.open', wire.broker)
    wire.down(encodeMethod(1, 'channel.close-ok'), encodeMethod(1, 'channel.open-ok'))
    await wire.arrived('channel.open-ok', wire.client)
    wire.down(encodeMethod(1, 'confirm.select-ok'))
    wire.proxy.rule(publishTo(toOrders), { do: 'lose-confirm' })
    wire.up(publish(1, 'orders'), publish(1, 'new'))
    await wire.arrived('basic.publish new', wire.broker)
    wire.down(ackUpTo(1, 2))
    await wire.arrived('basic.ack 2', wire.client)
    expect(told(wire.client)).not.toContain('basic.ack 1')
  })

  it('finds the channels by the queue they consume', async () => {
    const wire = await Wire.open()
    wire.up(consume(3, 'orders.billing', 'c3'), consume(4, 'orders.mail', 'c4'))
    await soon(
      () => 'the consumers did not arrive',
      () => told(wire.broker).length === 3,
    )
    expect(wire.proxy.closeConsumers((queue) => queue === 'orders.mail')).toBe(1)
    await wire.arrived('channel.close 541', wire.client)
    expect(framesOf(wire.client).map(({ channel }) => channel)).toEqual([4])
  })
})

describe('an injected alarm', () => {
  it('is told to connections that publish, present and future, until it heals', async () => {
    const wire = await Wire.open()
    await wire.confirming(1)
    const fault = wire.proxy.blockPublishers('low on memory')
    await wire.arrived('connection.blocked', wire.client)
    fault.heal()
    await wire.arrived('connection.unblocked', wire.client)
    const later = await Wire.open()
    later.proxy.blockPublishers('low on disk')
    await later.confirming(1)
    expect(told(later.client)).toEqual(['connection.blocked', 'confirm.select-ok'])
    expect(fault.fired).toBe(1)
  })
})
