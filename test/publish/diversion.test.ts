import { describe, expect, it } from 'vitest'

import { memoryDatabase, memoryOutbox } from '../../adapters/memory/index.ts'
import { CONFIRMED } from '../../src/contract/broker.ts'
import { StorageError } from '../../src/contract/errors.ts'
import type { MemoryOutbox, MemoryTransaction } from '../../adapters/memory/index.ts'
import { constant } from '../../src/policy/backoff.ts'
import { OutboxRelay } from '../../src/publish/relay.ts'
import type { Published } from '../../src/publish/published.ts'
import { seededRandom } from '../support/seeded-random.ts'
import { Notes, Orders, Stage } from './stage.ts'

interface Rig {
  readonly stage: Stage<MemoryTransaction>
  readonly outbox: MemoryOutbox
  readonly publish: (n: number, customer?: string) => Promise<Published>
  readonly pending: () => Promise<number>
}

function diverting(given: ConstructorParameters<typeof Stage<MemoryTransaction>>[0] = {}): Rig {
  const outbox = memoryOutbox({ database: memoryDatabase() })
  const stage = new Stage<MemoryTransaction>({
    answer: () => CONFIRMED,
    outbox,
    divert: true,
    ...given,
  })
  return {
    stage,
    outbox,
    publish: (n, customer = 'c') => stage.publisher.publish(Orders, { customer, n }),
    pending: async () => (await stage.clock.run(outbox.stats())).pending,
  }
}

function relayFor({ stage, outbox }: Rig): OutboxRelay<MemoryTransaction> {
  const { broker, clock } = stage
  const random = seededRandom(7)
  return new OutboxRelay({ broker, outbox, clock, random, logging: 'silent' })
}

function bodies({ stage }: Rig): unknown[] {
  return stage.broker.sends.flatMap((sent) => sent.bodies)
}

describe('a publisher that diverts', () => {
  it('uses the broker as long as the way there is open', async () => {
    const rig = diverting()
    expect(await rig.stage.clock.run(rig.publish(1))).toMatchObject({ via: 'broker' })
    expect(await rig.pending()).toBe(0)
  })

  it.each(['down', 'blocked'] as const)(
    'puts messages into the outbox while the broker is %s',
    async (status) => {
      const rig = diverting()
      await rig.stage.clock.run(rig.publish(1))
      rig.stage.broker.become(status)
      expect(await rig.stage.clock.run(rig.publish(2))).toMatchObject({
        via: 'outbox',
        attempts: 1,
      })
      expect(await rig.pending()).toBe(1)
      expect(rig.stage.clock.now()).toBe(0)
    },
  )

  it('does so too when the broker was never there, after a second', async () => {
    const rig = diverting()
    rig.stage.broker.opening = () => new Promise(() => undefined)
    expect(await rig.stage.clock.run(rig.publish(1))).toMatchObject({ via: 'outbox' })
    expect(rig.stage.clock.now()).toBe(1_000)
  })

  it('goes on doing so for that topic until the relay has brought them there, in order', async () => {
    const rig = diverting()
    const { broker, clock } = rig.stage
    await clock.run(rig.publish(1))
    broker.become('down')
    for (const n of [2, 3, 4]) await clock.run(rig.publish(n))
    broker.become('up')
    const late = rig.publish(5)
    const others = rig.stage.publisher.publish(Notes, 'other')
    expect(await clock.run(others)).toMatchObject({ via: 'broker' })
    await clock.advance(200)
    expect(bodies(rig)).toEqual([{ customer: 'c', n: 1 }, 'other'])
    const relay = relayFor(rig)
    await clock.run(relay.start())
    expect(await clock.run(late)).toMatchObject({ via: 'broker' })
    expect(bodies(rig).filter((body) => typeof body === 'object')).toEqual(
      [1, 2, 3, 4, 5].map((n) => ({ customer: 'c', n })),
    )
    await clock.run(relay.close())
    expect(await rig.stage.leakedTimers()).toBe(0)
  })

  it('diverts again when no relay brings them there, and does not let a publish fail for that', async () => {
    const rig = diverting()
    const { broker, clock } = rig.stage
    await clock.run(rig.publish(1))
    broker.become('down')
    await clock.run(rig.publish(2))
    broker.become('up')
    expect(await clock.run(rig.publish(3))).toMatchObject({ via: 'outbox' })
    const waited = clock.now()
    expect(waited).toBeLessThanOrEqual(6_000)
    expect(await clock.run(rig.publish(4))).toMatchObject({ via: 'outbox' })
    expect(clock.now()).toBe(waited)
    expect(await rig.pending()).toBe(3)
  })

  it('keeps the order of a key whose head was handed to the broker before it went away', async () => {
    const rig = diverting({ answer: null })
    const { broker, clock } = rig.stage
    const first = rig.publish(1)
    await clock.settle()
    const second = rig.publish(2)
    broker.become('down')
    await clock.advance(500)
    expect(await rig.pending()).toBe(0)
    broker.last.lose('connection-lost')
    expect(await clock.run(Promise.all([first, second]))).toMatchObject([
      { via: 'outbox', attempts: 2, possiblyDuplicated: true },
      { via: 'outbox', attempts: 1, possiblyDuplicated: false },
    ])
    const relay = relayFor(rig)
    broker.become('up')
    await clock.run(relay.start())
    await clock.advance(50)
    expect(broker.last.bodies).toEqual([{ customer: 'c', n: 1 }])
    await clock.run(relay.close({ timeoutMs: 10 }))
  })

  it('reads from the age of the oldest row whether its own are gone, however many others come', async () => {
    const rig = diverting()
    const { broker, clock } = rig.stage
    await clock.run(rig.publish(1))
    broker.become('down')
    await clock.run(rig.publish(2))
    broker.become('up')
    const relay = relayFor(rig)
    await clock.run(relay.start())
    await clock.advance(1_000)
    await clock.run(relay.close())
    // Rows of somebody else that no relay moves.
    const { database } = rig.outbox
    await clock.run(
      database.transaction(async (tx) => {
        await rig.stage.publisher.publishIn(tx, Notes, 'fresh')
      }),
    )
    expect(await clock.run(rig.publish(3))).toMatchObject({ via: 'broker' })
    expect(await rig.pending()).toBe(1)
  })

  it('tells it truthfully when the outbox fails too', async () => {
    const rig = diverting({ retry: { attempts: 2, backoff: constant(10) } })
    await rig.stage.clock.run(rig.publish(1))
    rig.stage.broker.become('down')
    rig.outbox.appendAlone = () =>
      Promise.reject(new StorageError('storage-full', 'the disk is full'))
    const full = rig.publish(2).catch((error: unknown) => error)
    expect(await rig.stage.clock.run(full)).toMatchObject({
      name: 'PublishRefusedError',
      code: 'storage-full',
    })
    rig.outbox.appendAlone = () =>
      Promise.reject(new StorageError('commit-unknown', 'no answer', { transient: true }))
    const lost = rig.publish(3).catch((error: unknown) => error)
    expect(await rig.stage.clock.run(lost)).toMatchObject({ name: 'OutcomeUnknownError' })
  })

  it('does not divert unless it was told to', async () => {
    const rig = diverting({ divert: false })
    await rig.stage.clock.run(rig.publish(1))
    rig.stage.broker.become('down')
    const waiting = rig.publish(2).catch((error: unknown) => error)
    expect(await rig.stage.clock.run(waiting)).toMatchObject({ code: 'not-sent' })
    expect(await rig.pending()).toBe(0)
  })
})
