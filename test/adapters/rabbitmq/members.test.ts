import { EventEmitter } from 'node:events'

import { describe, expect, it } from 'vitest'

import { Members } from '../../../adapters/rabbitmq/members.ts'
import type { Wire } from '../../../adapters/rabbitmq/wire.ts'
import type { Emit, HoldfastEvent } from '../../../src/contract/events.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'

type Request = 'assert' | 'consume' | 'check'

/** What a request is answered with: a number of consumers, a refusal of the broker, nothing ever. */
type Answer = number | { readonly code: number; readonly text?: string } | 'never'

/** A broker that answers as it is told; the channel ends with a refusal, as it does with RabbitMQ. */
class Broker {
  readonly clock = new VirtualClock()
  readonly events: HoldfastEvent[] = []
  readonly asked: string[] = []
  answers: Record<Request, Answer> = { assert: 0, consume: 0, check: 1 }
  channels = 0
  readonly open = new Set<EventEmitter>()
  readonly members: Members

  constructor() {
    const emit: Emit = Object.assign((event: HoldfastEvent) => void this.events.push(event), {
      wants: () => true,
    })
    this.members = new Members({ queue: 'q', clock: this.clock, emit, rpcTimeoutMs: 1_000 })
  }

  wire(): Wire {
    return {
      isOpen: true,
      channel: () => Promise.resolve(this.#channel()),
      rpc: (_what: string, work: () => Promise<unknown>) => work(),
    } as unknown as Wire
  }

  #channel(): EventEmitter {
    this.channels++
    const channel = new EventEmitter()
    this.open.add(channel)
    const answer = (request: Request) => (): Promise<unknown> => {
      this.asked.push(request)
      const given = this.answers[request]
      if (given === 'never') return new Promise(() => undefined)
      if (typeof given === 'number') return Promise.resolve({ consumerCount: given })
      this.open.delete(channel)
      channel.emit('close')
      return Promise.reject(Object.assign(new Error(given.text ?? 'no'), { code: given.code }))
    }
    return Object.assign(channel, {
      assertQueue: answer('assert'),
      consume: answer('consume'),
      checkQueue: answer('check'),
      close: async () => void this.open.delete(channel),
    })
  }

  requests(): readonly string[] {
    return this.asked.splice(0)
  }
}

/** One that takes part. */
async function joined(): Promise<Broker> {
  const broker = new Broker()
  broker.members.attach(broker.wire())
  await broker.clock.settle()
  expect(broker.requests()).toEqual(['assert', 'consume'])
  return broker
}

describe('members of a group', () => {
  it('are counted by one request, on the channel they consume on', async () => {
    const broker = await joined()
    broker.answers.check = 3
    expect(await broker.members.count()).toBe(3)
    await broker.members.join()
    expect([broker.requests(), broker.channels]).toEqual([['check'], 1])
  })

  it('are unknown where nobody takes part, or the broker counts none', async () => {
    expect(await new Broker().members.count()).toBeNull()
    const broker = await joined()
    broker.answers.check = 0
    expect(await broker.members.count()).toBeNull()
  })

  it('take part again at once when their queue has gone', async () => {
    const broker = await joined()
    broker.answers.check = { code: 404 }
    expect(await broker.members.count()).toBeNull()
    await broker.members.join()
    expect(broker.requests()).toEqual(['check', 'assert', 'consume'])
    expect(broker.open.size).toBe(1)
    broker.answers.check = 2
    expect(await broker.members.count()).toBe(2)
  })

  it('take part again when their consumer was cancelled', async () => {
    const broker = await joined()
    for (const channel of broker.open) channel.emit('cancel')
    await broker.clock.settle()
    expect(broker.open.size).toBe(0)
    await broker.members.join()
    expect(broker.open.size).toBe(1)
  })

  it('use a queue that they may not make, or that is another', async () => {
    for (const code of [403, 406]) {
      const broker = new Broker()
      broker.answers.assert = { code }
      broker.members.attach(broker.wire())
      await broker.clock.settle()
      expect(broker.requests()).toEqual(['assert', 'consume'])
      expect(await broker.members.count()).toBe(1)
      expect(broker.events).toEqual([])
    }
  })

  it('say once that they can do neither, and ask no more for a minute', async () => {
    const broker = new Broker()
    broker.answers = { assert: { code: 403, text: 'denied' }, consume: { code: 404 }, check: 1 }
    broker.members.attach(broker.wire())
    await broker.clock.settle()
    broker.requests()
    await broker.clock.advance(59_000)
    await broker.members.join()
    expect(broker.requests()).toEqual([])
    await broker.clock.advance(1_000)
    await broker.members.join()
    expect(broker.requests()).toEqual(['assert', 'consume'])
    expect(broker.events).toMatchObject([
      { type: 'warning', code: 'rabbitmq.members', message: expect.stringMatching(/"q".*denied/) },
    ])
  })

  it('ask a connection no more that did not answer', async () => {
    const broker = await joined()
    broker.answers.check = 'never'
    const counted = broker.members.count()
    expect(await broker.clock.run(counted)).toBeNull()
    await broker.members.join()
    expect(await broker.members.count()).toBeNull()
    expect(broker.requests()).toEqual(['check'])
    broker.answers.check = 2
    broker.members.attach(broker.wire())
    await broker.clock.settle()
    expect(await broker.members.count()).toBe(2)
    expect(broker.clock.timers).toBe(0)
  })

  it('leave, also when they had not quite come', async () => {
    const broker = await joined()
    broker.members.leave()
    await broker.clock.settle()
    expect(broker.open.size).toBe(0)
    expect(await broker.members.count()).toBeNull()
    void broker.members.join()
    broker.members.leave()
    await broker.clock.settle()
    expect(broker.open.size).toBe(0)
  })
})
