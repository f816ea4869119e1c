import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import type { Envelope } from '../../../src/contract/message.ts'
import { FaultProxy } from '../../brokers/proxy/fault-proxy.ts'
import { sharedNode } from '../../brokers/shared-node.ts'
import { envelope, envelopes, inWords, SendingStage, type Sending } from './sending-stage.ts'

let stage: SendingStage
let proxy: FaultProxy

beforeEach(async () => {
  stage = await SendingStage.on(sharedNode())
  const { amqpPort } = stage.node.address
  proxy = await FaultProxy.start({ target: () => ({ host: '127.0.0.1', port: amqpPort }) })
})

afterEach(async () => {
  await proxy.close()
  await stage.end()
})

/** Keeps at most `most` messages of the batch open until all were handed over; then waits for the rest. */
async function stream(sending: Sending, batch: readonly Envelope[], most = 2_000): Promise<void> {
  const { reports } = sending
  for (let from = 0; from < batch.length; from += 100) {
    await stage.eventually(
      () => JSON.stringify(reports.summary),
      () => reports.sent - reports.outcomes.size < most,
      60_000,
    )
    stage.send(sending, batch.slice(from, from + 100), 60_000)
  }
  await stage.settled(sending, 60_000)
}

/** What was confirmed is there, what was refused is not. */
async function hold(sending: Sending, topic: string): Promise<string[]> {
  const stored = await stage.drain(stage.queue(topic))
  const there = new Set(stored)
  const { reports } = sending
  expect(reports.ids('confirmed').filter((id) => !there.has(id))).toEqual([])
  expect(reports.ids('refused').filter((id) => there.has(id))).toEqual([])
  return stored
}

describe('sending while the connection is cut again and again', () => {
  it('loses no confirmed message, and leaves no outcome open', async () => {
    const topic = await stage.topic()
    const sending = stage.sending({ port: proxy.port })
    const batch = envelopes(topic, 20_000)
    let cuts = 0
    let isOver = false
    const cutting = (async () => {
      while (!isOver) {
        await new Promise((resolve) => setTimeout(resolve, 300))
        if (!isOver) cuts += proxy.reset()
      }
    })()
    await stream(sending, batch).finally(() => void (isOver = true))
    await cutting
    expect(cuts).toBeGreaterThan(1)
    expect(sending.reports.ids('confirmed').length).toBeGreaterThan(0)
    expect(Object.keys(sending.reports.summary).toSorted()).toEqual([
      'confirmed',
      'unknown connection-lost',
    ])
    await hold(sending, topic)
  })

  it('goes on after the broker closed all connections, and after it was restarted', async () => {
    const topic = await stage.topic()
    const sending = stage.sending()
    const first = stream(sending, envelopes(topic, 5_000))
    await stage.eventually(
      () => 'nothing confirmed',
      () => sending.reports.ids('confirmed').length > 0,
    )
    await stage.node.closeAllConnections()
    await first
    const second = stream(sending, envelopes(topic, 2_000, 5_000))
    await stage.node.restartApp()
    await second
    const third = envelope(topic, 'last')
    stage.send(sending, [third])
    await stage.settled(sending)
    expect(inWords(sending.reports.outcomes.get('last'))).toBe('confirmed')
    expect(sending.wires.length).toBeGreaterThan(2)
    await hold(sending, topic)
  })

  it('writes a message again under its id when its confirm was lost', async () => {
    const topic = await stage.topic()
    const sending = stage.sending({ port: proxy.port })
    stage.send(sending, [envelope(topic, 'warm')])
    await stage.settled(sending)
    const lost = proxy.drop('down')
    stage.send(sending, [envelope(topic, 'x')])
    await stage.eventually(
      () => 'not stored',
      async () =>
        (await stage.operate((channel) => channel.checkQueue(stage.queue(topic)))).messageCount ===
        2,
    )
    proxy.reset()
    lost.heal()
    await stage.settled(sending)
    expect(inWords(sending.reports.outcomes.get('x'))).toBe('unknown connection-lost')
    sending.reports.outcomes.delete('x')
    stage.send(sending, [envelope(topic, 'x')])
    await stage.eventually(
      () => 'not confirmed',
      () => inWords(sending.reports.outcomes.get('x')) === 'confirmed',
    )
    sending.reports.sent--
    expect((await stage.drain(stage.queue(topic))).filter((id) => id === 'x')).toEqual(['x', 'x'])
  })
})

describe('topology that goes away under load', () => {
  it('is never confirmed without a queue: the binding is deleted in mid-burst', async () => {
    const topic = await stage.topic()
    const sending = stage.sending()
    const sent = stream(sending, envelopes(topic, 6_000))
    await stage.eventually(
      () => 'nothing confirmed',
      () => sending.reports.ids('confirmed').length > 100,
    )
    await stage.operate((channel) => channel.unbindQueue(stage.queue(topic), topic, '#'))
    await sent
    const stored = await hold(sending, topic)
    expect(sending.reports.summary['refused unroutable']).toBeGreaterThan(0)
    expect(stored.length).toBe(sending.reports.ids('confirmed').length)
  })

  it('leaves no outcome open when the queue itself is deleted', async () => {
    const topic = await stage.topic()
    const sending = stage.sending()
    const sent = stream(sending, envelopes(topic, 4_000))
    await stage.eventually(
      () => 'nothing confirmed',
      () => sending.reports.ids('confirmed').length > 100,
    )
    await stage.operate((channel) => channel.deleteQueue(stage.queue(topic)))
    await sent
    expect(sending.reports.summary['refused unroutable']).toBeGreaterThan(0)
  })
})

describe('a slow way to the broker', () => {
  it('is usable again soon after thousands of poison messages, with none of the others lost', async () => {
    const topic = await stage.topic()
    const sending = stage.sending({ port: proxy.port })
    const slow = proxy.throttle('up', 1_000_000)
    const body = Buffer.alloc(4_096)
    const batch = Array.from({ length: 2_000 }, (_, n) =>
      n % 20 === 0
        ? envelope(topic, `good-${n}`)
        : envelope('no-such-exchange', `m-${n}`, { body }),
    )
    stage.send(sending, batch, 60_000)
    await stage.settled(sending, 60_000)
    expect(sending.reports.ids('confirmed')).toHaveLength(100)
    expect(sending.reports.summary['refused unroutable']).toBe(1_900)
    expect(sending.wires.length).toBeLessThan(20)
    expect(slow.fired).toBeGreaterThan(0)
    slow.heal()
    expect(new Set(await hold(sending, topic)).size).toBe(100)
  })

  it('does not make messages pile up in memory: what waits stays with the caller', async () => {
    const topic = await stage.topic()
    const sending = stage.sending({ port: proxy.port })
    stage.send(sending, [envelope(topic, 'warm')])
    await stage.settled(sending)
    const slow = proxy.throttle('up', 100_000)
    const body = Buffer.alloc(65_536)
    const before = process.memoryUsage().arrayBuffers
    const batch = Array.from({ length: 2_000 }, (_, n) => envelope(topic, `m-${n}`, { body }))
    stage.send(sending, batch, 1_500)
    await stage.settled(sending)
    // 128 MiB were handed over, all views of one buffer: at most the bytes in flight were copied.
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(32 * 1024 * 1024)
    const summary = sending.reports.summary
    expect(summary['refused not-sent']).toBeGreaterThan(1_800)
    expect(summary['unknown timeout']).toBeLessThan(100)
    slow.heal()
  })
})

describe('a channel that the broker closes for reasons of its own', () => {
  it('makes unknown what was in flight, and the connection is replaced', async () => {
    const topic = await stage.topic()
    const sending = stage.sending({ port: proxy.port })
    const text = 'INTERNAL_ERROR'
    const fault = proxy.rule('basic.publish', { do: 'close-channel', code: 541, text }, 1)
    stage.send(sending, envelopes(topic, 50))
    await stage.settled(sending)
    expect(fault.fired).toBe(1)
    expect(sending.reports.summary['unknown connection-lost']).toBeGreaterThan(0)
    stage.send(sending, envelopes(topic, 50, 50))
    await stage.settled(sending)
    expect(sending.wires).toEqual(['publish', 'publish'])
    await hold(sending, topic)
  })
})

describe('closing', () => {
  it('waits for the confirms of what was written, refuses what was not', async () => {
    const topic = await stage.topic()
    const sending = stage.sending({ options: { window: 100 } })
    stage.send(sending, envelopes(topic, 5_000))
    await stage.eventually(
      () => 'nothing confirmed',
      () => sending.reports.ids('confirmed').length > 0,
    )
    await sending.sender.close(stage.deadline(20_000))
    const { confirmed = 0, 'refused not-sent': refused = 0 } = sending.reports.summary
    expect(confirmed + refused).toBe(5_000)
    expect((await hold(sending, topic)).length).toBe(confirmed)
    stage.send(sending, [envelope(topic, 'late')])
    expect(sending.reports.outcomes.has('late')).toBe(false)
    await stage.settled(sending)
    expect(inWords(sending.reports.outcomes.get('late'))).toBe('refused not-sent')
  })

  it('ends by its deadline, unknown what was written, when no confirm comes', async () => {
    const topic = await stage.topic()
    const sending = stage.sending({ port: proxy.port })
    stage.send(sending, [envelope(topic, 'warm')])
    await stage.settled(sending)
    const hole = proxy.blackHole()
    stage.send(sending, [envelope(topic, 'x')])
    await sending.sender.close(stage.deadline(300))
    expect(inWords(sending.reports.outcomes.get('x'))).toBe('unknown timeout')
    hole.heal()
  })
})

describe('a memory alarm of the broker', () => {
  it('stops writing without growing, and all that waited is confirmed once afterwards', async () => {
    const topic = await stage.topic()
    const sending = stage.sending({ options: { confirmTimeoutMs: 1_000 } })
    stage.send(sending, envelopes(topic, 100))
    await stage.settled(sending)
    const clear = await stage.node.memoryAlarm()
    try {
      stage.send(sending, envelopes(topic, 10_000, 100), 60_000)
      await stage.eventually(
        () => sending.health.join(),
        () => sending.health.at(-1)?.startsWith('blocked') === true,
      )
      const before = sending.reports.outcomes.size
      await new Promise((resolve) => setTimeout(resolve, 3_000))
      // Longer than confirmTimeoutMs: nothing was given up meanwhile, nothing got through.
      expect(sending.reports.outcomes.size).toBe(before)
    } finally {
      await clear()
    }
    await stage.settled(sending, 60_000)
    expect(sending.reports.summary).toEqual({ confirmed: 10_100 })
    expect((await hold(sending, topic)).length).toBe(10_100)
    expect(sending.wires).toEqual(['publish'])
  })
})
