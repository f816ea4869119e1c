import { describe, expect, it, type Mock, vi } from 'vitest'

import { topic } from 'holdfast'
import { memoryDatabase, memoryInbox, memoryOutbox } from 'holdfast/memory'

import { Messaging } from '../../src/config/messaging.ts'
import { ReliablePublisher } from '../../src/publish/publisher.ts'
import { OutboxRelay } from '../../src/publish/relay.ts'
import { CONFIRMED } from '../../src/contract/broker.ts'
import { ScriptedBroker } from '../support/scripted-broker.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const Orders = topic('orders')
const never = (): Promise<never> => new Promise(() => undefined)

/** How a part is ended. */
type End = (within?: { readonly timeoutMs?: number }) => Promise<void>

/** A whole messaging in virtual time, whose parts a test can make hang. */
class Rig {
  readonly clock: VirtualClock = new VirtualClock()
  readonly broker: ScriptedBroker = new ScriptedBroker(this.clock, {}, () => CONFIRMED)
  readonly outbox = memoryOutbox({ database: memoryDatabase({ clock: this.clock }) })
  readonly inbox = memoryInbox({ database: this.outbox.database })
  readonly publisher: ReliablePublisher
  readonly relay: OutboxRelay
  readonly messaging: Messaging<unknown, unknown>

  constructor() {
    const { broker, clock, outbox, inbox } = this
    const common = { broker, clock, logging: 'silent' } as const
    this.publisher = new ReliablePublisher({ ...common, outbox: outbox as never })
    this.relay = new OutboxRelay({ ...common, outbox })
    const config = { broker, logging: 'silent' } as const
    this.messaging = new Messaging({
      ...{ config, broker, outbox: outbox as never, inbox: inbox as never, handlerOutbox: null },
      ...{ publisher: this.publisher, relay: this.relay as never, clock },
    })
  }

  /** Adds a consumer that hears only how it is ended. */
  consumer(): Record<'drain' | 'close', Mock<End>> & { end(): Promise<void> } {
    const made = this.messaging.consumer(Orders, { group: 'billing' }, () => undefined)
    const close = made.close.bind(made)
    const ended = (): Mock<End> => vi.fn<End>(() => Promise.resolve())
    const told = { drain: ended(), close: ended() }
    Object.assign(made, told)
    return { ...told, end: () => close() }
  }
}

describe('ending a messaging', () => {
  it.each(['drain', 'close'] as const)('%s: takes the time it was given, not more', async (how) => {
    const rig = new Rig()
    const consumer = rig.consumer()
    consumer[how].mockImplementation(never)
    rig.publisher.flush = never
    rig.publisher.close = never
    rig.relay[how] = never
    rig.outbox.close = never
    const ended = rig.messaging[how]({ timeoutMs: 1_000 }).catch((error: unknown) => error)
    const error = await rig.clock.run(ended)
    expect(rig.clock.now()).toBeLessThanOrEqual(1_000)
    const messages = (error as AggregateError).errors.map(({ message }: Error) => message)
    expect(messages.map((text) => text.replace(/ did not end within \d+ ms$/, ''))).toEqual([
      'ending the consumers',
      ...(how === 'drain' ? ['flushing the publisher'] : []),
      'closing the publisher',
      'ending the relay',
      'closing outbox and inbox',
    ])
  })

  it('shares the time that is left between the parts, all of it when nothing hangs', async () => {
    const rig = new Rig()
    const consumer = rig.consumer()
    const ended = vi.fn<End>(() => Promise.resolve())
    rig.relay.drain = (within) => ended(within)
    await rig.clock.run(rig.messaging.drain({ timeoutMs: 1_000 }))
    expect(consumer.drain).toHaveBeenCalledWith({ timeoutMs: 600 })
    expect(ended).toHaveBeenCalledWith({ timeoutMs: 800 })
  })

  it('refuses a time that is none', () => {
    const { messaging } = new Rig()
    expect(() => messaging.drain({ timeoutMs: -1 })).toThrow(/drain\.timeoutMs: got -1; allowed/)
    expect(() => messaging.close({ timeoutMs: 0.5 })).toThrow(/close\.timeoutMs: got 0.5; allowed/)
  })

  it('knows only consumers that have not ended', async () => {
    const rig = new Rig()
    const [ended, other] = [rig.consumer(), rig.consumer()]
    await ended.end()
    await rig.clock.run(rig.messaging.close())
    expect(ended.close).not.toHaveBeenCalled()
    expect(other.close).toHaveBeenCalledOnce()
  })
})
