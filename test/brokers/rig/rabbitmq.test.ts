import { connect, type ChannelModel } from 'amqplib'
import { afterEach, describe, expect, it } from 'vitest'

import { systemClock } from '../../../src/contract/clock.ts'
import { eventually } from '../../conformance/wait.ts'
import { FaultProxy } from '../proxy/fault-proxy.ts'
import type { Vhost } from '../rabbitmq-node.ts'
import { sharedNode } from '../shared-node.ts'

const cleanUps: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).toReversed()) await cleanUp()
})

async function vhost(): Promise<Vhost> {
  const own = await sharedNode().vhost()
  cleanUps.push(() => own.remove())
  return own
}

/** A plain client, whose ends are told. */
async function plain(url: string): Promise<{ connection: ChannelModel; ends: string[] }> {
  const connection = await connect(url)
  const ends: string[] = []
  connection.on('error', (error: Error) => ends.push(error.message))
  connection.on('close', () => ends.push('closed'))
  cleanUps.push(() => connection.close().catch(() => undefined))
  return { connection, ends }
}

const soon = (what: () => string, condition: () => boolean): Promise<void> =>
  eventually(systemClock, 30_000, what, condition)

/** Sends persistent messages to a new durable queue and waits for every confirm. */
async function fill(url: string, count: number): Promise<string> {
  const { connection } = await plain(url)
  const channel = await connection.createConfirmChannel()
  const { queue } = await channel.assertQueue('orders', {
    durable: true,
    arguments: { 'x-queue-type': 'quorum' },
  })
  for (let n = 0; n < count; n++) {
    channel.sendToQueue(queue, Buffer.from(`${n}`), { persistent: true })
  }
  await channel.waitForConfirms()
  await connection.close()
  return queue
}

/** A queue that was just recovered may say 0 before it says what it holds. */
async function holds(url: string, queue: string, count: number): Promise<void> {
  let last = -1
  await eventually(
    systemClock,
    30_000,
    () => `${queue} holds ${last}, not ${count}`,
    async () => (last = await depth(url, queue)) === count,
  )
}

async function depth(url: string, queue: string): Promise<number> {
  const { connection } = await plain(url)
  const channel = await connection.createChannel()
  const { messageCount } = await channel.checkQueue(queue)
  await connection.close()
  return messageCount
}

describe('the node of the broker tests', () => {
  it('takes messages in a virtual host of its own, as the version it says', async () => {
    const { url, name } = await vhost()
    const { connection } = await plain(url)
    expect(connection.connection.serverProperties.version).toMatch(/^4\.\d+\.\d+/)
    await fill(url, 10)
    await holds(url, 'orders', 10)
    const found = await sharedNode().management.queue(name, 'orders')
    expect(found).toMatchObject({ name: 'orders', type: 'quorum' })
  })

  it('keeps what it confirmed when it is killed, at the same ports', async () => {
    const { url } = await vhost()
    const node = sharedNode()
    await fill(url, 100)
    const { ends } = await plain(url)
    await node.sync()
    await node.kill()
    await soon(
      () => 'the connection did not end',
      () => ends.includes('closed'),
    )
    await node.start()
    await holds(url, 'orders', 100)
  })

  it('closes every connection when its application restarts, or when told to', async () => {
    const { url } = await vhost()
    const first = await plain(url)
    await sharedNode().restartApp()
    expect(first.ends).toContain('closed')
    const second = await plain(url)
    await sharedNode().closeAllConnections()
    await soon(
      () => 'the connection did not end',
      () => second.ends.includes('closed'),
    )
  })

  it('blocks who publishes during a memory alarm', async () => {
    const { url } = await vhost()
    const { connection } = await plain(url)
    const told: string[] = []
    connection.on('blocked', () => told.push('blocked'))
    connection.on('unblocked', () => told.push('unblocked'))
    const clear = await sharedNode().memoryAlarm()
    cleanUps.push(clear)
    const channel = await connection.createChannel()
    await channel.assertQueue('q', { durable: true })
    channel.sendToQueue('q', Buffer.from('x'))
    await soon(
      () => 'it was not blocked',
      () => told.includes('blocked'),
    )
    await clear()
    await soon(
      () => 'it stayed blocked',
      () => told.includes('unblocked'),
    )
  })

  it('stands still while paused, and goes on', async () => {
    const { url } = await vhost()
    const goOn = await sharedNode().pause()
    cleanUps.push(goOn)
    const queue = fill(url, 1)
    let isDone = false
    void queue.then(() => {
      isDone = true
    })
    await new Promise((resolve) => setTimeout(resolve, 500))
    expect(isDone).toBe(false)
    await goOn()
    expect(await queue).toBe('orders')
  })
})

describe('the fault proxy before a real broker', () => {
  async function throughProxy(): Promise<{ proxy: FaultProxy; url: string; direct: string }> {
    const { name, url } = await vhost()
    const node = sharedNode()
    const proxy = await FaultProxy.start({
      target: () => ({ host: '127.0.0.1', port: node.address.amqpPort }),
    })
    cleanUps.push(() => proxy.close())
    return { proxy, url: node.url(name, proxy.port), direct: url }
  }

  it('loses the confirm of a message that is stored', async () => {
    const { proxy, url, direct } = await throughProxy()
    await fill(url, 1)
    const { connection } = await plain(url)
    const channel = await connection.createConfirmChannel()
    const rule = proxy.rule(
      ({ method, routingKey }) => method === 'basic.publish' && routingKey === 'orders',
      { do: 'lose-confirm' },
      1,
    )
    const heard: number[] = []
    for (const n of [1, 2]) {
      channel.sendToQueue('orders', Buffer.from(`${n}`), {}, () => heard.push(n))
    }
    await soon(
      () => `heard of ${heard.join(', ')}`,
      () => heard.includes(2),
    )
    expect(heard).toEqual([2])
    expect(rule.fired).toBe(1)
    await holds(direct, 'orders', 3)
  })

  it('closes the channel of a consumer, and the queue gets its messages back', async () => {
    const { proxy, url, direct } = await throughProxy()
    await fill(url, 3)
    const { connection, ends } = await plain(url)
    const channel = await connection.createChannel()
    const errors: string[] = []
    let got = 0
    channel.on('error', (error: Error) => errors.push(error.message))
    await channel.consume('orders', () => void got++)
    await soon(
      () => `got ${got}`,
      () => got === 3,
    )
    expect(proxy.closeConsumers((queue) => queue === 'orders')).toBe(1)
    await soon(
      () => 'the channel was not closed',
      () => errors.length === 1,
    )
    expect(errors[0]).toContain('INTERNAL_ERROR')
    await soon(
      () => 'the messages did not come back',
      () => got >= 3,
    )
    // The connection lives on, and the number of the channel can be used again.
    const again = await connection.createChannel()
    expect((await again.checkQueue('orders')).queue).toBe('orders')
    await holds(direct, 'orders', 3)
    expect(ends).toEqual([])
  })
})
