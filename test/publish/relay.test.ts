import { describe, expect, it } from 'vitest'

import { memory, memoryOutbox } from '../../adapters/memory/index.ts'
import { CONFIRMED, type SendOutcome } from '../../src/contract/broker.ts'
import { ClosedError, StorageError, type HoldfastError } from '../../src/contract/errors.ts'
import type { Envelope } from '../../src/contract/message.ts'
import type { LeaseGrant } from '../../src/contract/store.ts'
import { constant } from '../../src/policy/backoff.ts'
import { OutboxRelay } from '../../src/publish/relay.ts'
import { outboxRow } from '../../src/send/outbox.ts'
import { envelope } from '../send/stage.ts'
import { refused, unknown } from '../support/scripted-broker.ts'
import { RelayStage } from './relay-stage.ts'

const confirming = { answer: () => CONFIRMED }

function nameOf({ id }: Envelope): string {
  return id ?? ''
}

function range(from: number, to: number, key = ''): string[] {
  const prefix = key === '' ? 'm' : `${key}:`
  return Array.from({ length: to - from }, (_, n) => `${prefix}${from + n}`)
}

describe('the relay', () => {
  it('moves rows to the broker in order and deletes them', async () => {
    const stage = new RelayStage()
    await stage.append('a', 'b', 'c')
    const rig = await stage.relay(confirming)
    await stage.clock.advance(100)
    expect([rig.sent, stage.pending]).toEqual([['a', 'b', 'c'], 0])
    expect(rig.of('relay.published')).toEqual([{ type: 'relay.published', count: 3 }])
    expect(rig.broker.last.purpose).toBe('relay')
    expect(await stage.leakedTimers()).toBe(0)
  })

  it('deletes nothing before its confirm, however long that takes', async () => {
    const stage = new RelayStage()
    await stage.append('a', 'b')
    const { broker } = await stage.relay()
    await stage.clock.advance(40_000)
    expect(stage.pending).toBe(2)
    broker.last.confirm(1, 2)
    await stage.clock.advance(10)
    expect(stage.pending).toBe(1)
    broker.last.confirm(0, 1)
    await stage.clock.advance(10)
    expect([stage.pending, broker.sends.length]).toEqual([0, 1])
  })

  it('sends what ended unknown again, with the same id, as often as it takes, and never parks it', async () => {
    const stage = new RelayStage()
    await stage.append('a')
    let tries = 0
    const rig = await stage.relay({ answer: () => (++tries < 40 ? unknown() : CONFIRMED) })
    await stage.clock.advance(600_000)
    expect(rig.sent).toEqual(Array.from({ length: 40 }, () => 'a'))
    expect([stage.pending, stage.dead]).toEqual([0, []])
  })

  it('deletes only what was confirmed of a batch', async () => {
    const stage = new RelayStage()
    await stage.append(...range(0, 20))
    const answer = (one: Envelope): SendOutcome =>
      Number(nameOf(one).slice(1)) % 3 === 0 ? unknown() : CONFIRMED
    await stage.relay({ answer })
    await stage.clock.advance(5_000)
    expect(stage.pending).toBe(7)
  })

  it('uses no attempts and bounded memory while the broker is away for an hour, then moves all', async () => {
    const stage = new RelayStage()
    await stage.append(...range(0, 300), ...range(0, 100, 'k'))
    let isUp = false
    const rig = stage.idle({
      ...confirming,
      inFlight: 50,
      answer: () => (isUp ? CONFIRMED : unknown('connection-lost')),
    })
    rig.broker.opening = () => (isUp ? Promise.resolve() : Promise.reject(new Error('refused')))
    await stage.clock.run(rig.relay.start())
    await stage.clock.advance(1_800_000)
    expect(rig.broker.sends).toEqual([])
    isUp = true
    await stage.clock.advance(6_000)
    expect([stage.pending, stage.dead]).toEqual([0, []])
    await stage.append(...range(300, 600))
    isUp = false
    rig.broker.become('down')
    await stage.clock.advance(1_800_000)
    expect(stage.pending).toBe(300)
    isUp = true
    rig.broker.become('up')
    await stage.clock.advance(10_000)
    expect([stage.pending, stage.dead]).toEqual([0, []])
    const perKey = rig.sent.filter((name) => name.startsWith('k'))
    expect(perKey).toEqual(range(0, 100, 'k'))
  })

  it('counts no attempt while every send is refused as unavailable, and opens its breaker', async () => {
    const stage = new RelayStage()
    await stage.append(...range(0, 100))
    let isUp = false
    const answer = (): SendOutcome => (isUp ? CONFIRMED : refused('unavailable', true))
    const rig = await stage.relay({ answer, inFlight: 20, breaker: { volumeThreshold: 3 } })
    await stage.clock.advance(600_000)
    expect([stage.pending, stage.dead]).toEqual([100, []])
    expect(rig.of('breaker.state')[0]).toEqual({
      type: 'breaker.state',
      name: 'relay',
      state: 'open',
    })
    // About one probe a second, and none of it a storm.
    expect(rig.broker.sends.length).toBeLessThan(1_000)
    isUp = true
    await stage.clock.advance(5_000)
    expect(stage.pending).toBe(0)
  })

  it('holds no more rows than its bound', async () => {
    const stage = new RelayStage()
    await stage.append(...range(0, 100))
    await stage.appendTo('payments', ...range(100, 200))
    const { broker } = await stage.relay({ inFlight: 30, batchSize: 10 })
    const sent = (): number => new Set(broker.sends.flatMap(({ ids }) => ids)).size
    await stage.clock.advance(5_000)
    expect(sent()).toBe(30)
    for (const one of [...broker.sends]) one.confirm()
    await stage.clock.advance(100)
    expect(sent()).toBe(60)
  })

  it('hands over one message of a key at a time, in order, and other keys meanwhile', async () => {
    const stage = new RelayStage()
    await stage.append('a:1', 'b:1', 'a:2', 'a:3', 'b:2')
    const { broker } = await stage.relay()
    await stage.clock.advance(100)
    expect(new Set(broker.sends.flatMap(({ ids }) => ids))).toEqual(new Set(['a:1', 'b:1']))
    for (let n = 0; n < 6; n++) {
      for (const sent of broker.sends.slice(n, n + 1)) sent.confirm()
      await stage.clock.advance(100)
    }
    const ids = broker.sends.flatMap((sent) => sent.ids)
    expect(ids.filter((id) => id?.startsWith('a'))).toEqual(['a:1', 'a:2', 'a:3'])
    expect(ids.filter((id) => id?.startsWith('b'))).toEqual(['b:1', 'b:2'])
    expect(stage.pending).toBe(0)
  })

  it('drops what a slow read brings of a key of which earlier rows were given back meanwhile', async () => {
    const stage = new RelayStage()
    await stage.append('k:1', 'k:2')
    const rig = stage.idle({ sendTimeoutMs: 1_000, pollMs: 100 })
    const { read } = rig.store
    let slowMs = 0
    rig.store.read = async (...given) => {
      const rows = await read.apply(rig.store, given)
      await new Promise<void>((resolve) => stage.clock.after(slowMs, resolve))
      return rows
    }
    await stage.clock.run(rig.relay.start())
    await stage.clock.advance(200)
    expect(rig.sent).toEqual(['k:1'])
    slowMs = 4_000
    await stage.append('k:3')
    await stage.clock.advance(2_800)
    // The first one timed out, its follower was given back, and it was sent again.
    expect(rig.sent).toEqual(['k:1', 'k:1'])
    rig.broker.last.confirm()
    await stage.clock.advance(500)
    slowMs = 0
    for (let n = 0; n < 60; n++) {
      for (const sent of rig.broker.sends) sent.confirm()
      await stage.clock.advance(100)
    }
    expect([rig.sent, stage.pending]).toEqual([['k:1', 'k:1', 'k:2', 'k:3'], 0])
  })

  it('does not let one hot key take all the room', async () => {
    const stage = new RelayStage()
    await stage.append(...range(0, 500, 'hot'), 'cold:1', 'm1')
    const rig = await stage.relay({
      inFlight: 100,
      answer: (one) => (nameOf(one).startsWith('hot') ? null : CONFIRMED),
    })
    await stage.clock.advance(1_000)
    expect(rig.sent.filter((name) => !name.startsWith('hot')).toSorted()).toEqual(['cold:1', 'm1'])
  })

  it('declares its topics before their first row', async () => {
    const stage = new RelayStage()
    await stage.append('a')
    const { broker } = await stage.relay({ ...confirming, topics: { orders: { groups: ['g'] } } })
    await stage.clock.advance(100)
    expect(broker.provisioned.flatMap(({ topics }) => topics.map(({ groups }) => groups))).toEqual([
      ['g'],
    ])
  })

  it('declares a topic as ordered when its rows are, since it knows no more of it than them', async () => {
    const stage = new RelayStage()
    await stage.appendTo('loose', 'a', 'b')
    await stage.appendTo('kept', 'k:1', 'k:2')
    const topics = { loose: { groups: ['g'] }, kept: { groups: ['g'] } }
    const { broker } = await stage.relay({ ...confirming, topics })
    await stage.clock.advance(100)
    const declared = broker.provisioned.flatMap((one) => one.topics)
    expect(new Map(declared.map(({ name, ordering }) => [name, ordering]))).toEqual(
      new Map([
        ['kept', 'key'],
        ['loose', 'none'],
      ]),
    )
    expect(declared).toHaveLength(2)
  })

  it('moves rows through the memory broker', async () => {
    const stage = new RelayStage()
    await stage.append(...range(0, 50), ...range(0, 50, 'k'))
    const broker = memory()
    const outbox = memoryOutbox({ database: stage.database })
    const { clock } = stage
    const topics = { orders: { groups: [] } }
    const relay = new OutboxRelay({ broker, outbox, clock, topics, logging: 'silent' })
    await clock.run(relay.start())
    await clock.advance(1_000)
    expect([broker.published('orders').length, stage.pending]).toEqual([100, 0])
    await clock.run(relay.drain())
    expect(clock.timers).toBe(0)
  })
})

describe('a message the broker refuses for good', () => {
  const poison = (name: string): { answer: (one: Envelope) => SendOutcome } => ({
    answer: (one) => (nameOf(one) === name ? refused('too-large', false) : CONFIRMED),
  })

  it('is tried its attempts and then parked with the reason; the others flow, order kept', async () => {
    const stage = new RelayStage()
    const names = Array.from({ length: 1_000 }, (_, n) => `k${n % 10}:${n}`)
    await stage.append(...names)
    const rig = await stage.relay({ ...poison('k3:13'), attempts: 4, backoff: constant(500) })
    await stage.clock.advance(10_000)
    expect(stage.dead).toEqual([
      { name: 'k3:13', reason: expect.stringMatching(/^too-large: too-large on purpose/) },
    ])
    expect(rig.of('relay.parked')).toEqual([
      { type: 'relay.parked', topic: 'orders', id: 'k3:13', reason: stage.dead[0]?.reason },
    ])
    expect(rig.sent.filter((name) => name === 'k3:13')).toHaveLength(4)
    expect(stage.pending).toBe(0)
    for (let key = 0; key < 10; key++) {
      const ofKey = (name: string): boolean => name.startsWith(`k${key}:`) && name !== 'k3:13'
      expect(rig.sent.filter(ofKey)).toEqual(names.filter(ofKey))
    }
  })

  it('delays its key while it is tried, and no other', async () => {
    const stage = new RelayStage()
    await stage.append('a:1', 'a:2', 'b:1', 'b:2')
    const rig = await stage.relay({ ...poison('a:1'), attempts: 3, backoff: constant(1_000) })
    await stage.clock.advance(900)
    expect(rig.sent).not.toContain('a:2')
    expect(rig.sent.filter((name) => name.startsWith('b'))).toEqual(['b:1', 'b:2'])
    await stage.clock.advance(2_000)
    expect([stage.pending, stage.dead.map(({ name }) => name)]).toEqual([0, ['a:1']])
    expect(rig.sent.at(-1)).toBe('a:2')
  })

  it("blocks its key for ever where the option says 'block-key'", async () => {
    const stage = new RelayStage()
    await stage.append('a:1', 'a:2', 'b:1')
    let well = false
    const answer = (one: Envelope): SendOutcome =>
      nameOf(one) === 'a:1' && !well ? refused('unroutable', false) : CONFIRMED
    const rig = await stage.relay({ answer, onPoison: 'block-key', attempts: 2 })
    await stage.clock.advance(600_000)
    expect([stage.pending, stage.dead]).toEqual([2, []])
    expect(rig.sent).not.toContain('a:2')
    well = true
    await stage.clock.advance(30_000)
    expect([stage.pending, rig.sent.slice(-2)]).toEqual([0, ['a:1', 'a:2']])
  })

  it('is not confused with one that may be stored', async () => {
    const stage = new RelayStage()
    await stage.append('a')
    let tries = 0
    const answer = (): SendOutcome => (++tries % 2 === 1 ? unknown() : refused('rejected', false))
    await stage.relay({ answer, attempts: 2 })
    await stage.clock.advance(60_000)
    expect([stage.dead, stage.pending]).toEqual([[], 1])
  })

  it.each(['unroutable', 'too-large', 'rejected', 'codec', 'schema'] as const)(
    'is parked for the reason %s',
    async (code) => {
      const stage = new RelayStage()
      await stage.append('a', 'b')
      const answer = (one: Envelope): SendOutcome =>
        nameOf(one) === 'a' ? refused(code, false) : CONFIRMED
      await stage.relay({ answer, attempts: 2 })
      await stage.clock.advance(10_000)
      expect([stage.dead.map(({ name }) => name), stage.pending]).toEqual([['a'], 0])
    },
  )

  it('is parked in the end although the store fails at first', async () => {
    const stage = new RelayStage()
    await stage.append('a')
    const rig = stage.idle({ ...poison('a'), attempts: 1 })
    const { park } = rig.store
    let tries = 0
    rig.store.park = (...given) =>
      ++tries < 3
        ? Promise.reject(new StorageError('storage-busy', 'locked', { transient: true }))
        : park.apply(rig.store, given)
    await stage.clock.run(rig.relay.start())
    await stage.clock.advance(5_000)
    expect(stage.dead.map(({ name }) => name)).toEqual(['a'])
    expect(rig.of('relay.error').map(({ step }) => step)).toEqual(['park', 'park'])
  })
})

describe('a broker that can store nothing', () => {
  const codes = [
    'storage',
    'storage-corrupt',
    'storage-read-only',
    'storage-full',
    'topology',
    'capability',
    'destination-gone',
    'unavailable',
    'nacked',
  ] as const

  it.each(codes)('costs no message when it refuses with %s, and keeps no row', async (code) => {
    const stage = new RelayStage()
    await stage.append(...range(0, 20), ...range(0, 5, 'k'))
    let isUp = false
    const rig = await stage.relay({
      answer: () => (isUp ? CONFIRMED : refused(code, false)),
      attempts: 2,
      inFlight: 10,
    })
    await stage.clock.advance(120_000)
    expect([stage.pending, stage.dead]).toEqual([25, []])
    isUp = true
    await stage.clock.advance(60_000)
    expect([stage.pending, stage.dead]).toEqual([0, []])
    const ofKey = rig.sent.filter((name) => name.startsWith('k'))
    expect([...new Set(ofKey)]).toEqual(range(0, 5, 'k'))
  })

  it('is told as an error of the relay, not for every row', async () => {
    const stage = new RelayStage()
    await stage.append(...range(0, 20))
    const rig = await stage.relay({ answer: () => refused('storage-corrupt', false) })
    await stage.clock.advance(25_000)
    const told = rig.of('relay.error')
    expect(told.map(({ step }) => step)).toEqual(['publish', 'publish', 'publish'])
    expect((told[0]?.error as HoldfastError | undefined)?.code).toBe('storage-corrupt')
  })
})

describe('a destination that does not work', () => {
  it('stops alone: the other topics keep flowing, and it comes back by itself', async () => {
    const stage = new RelayStage()
    await stage.appendTo('sick', ...range(0, 200))
    await stage.append(...range(200, 400))
    let well = false
    const answer = ({ to }: Envelope): SendOutcome =>
      to.kind === 'topic' && to.topic === 'sick' && !well ? refused('rejected', true) : CONFIRMED
    const rig = await stage.relay({
      answer,
      inFlight: 40,
      batchSize: 10,
      breaker: { volumeThreshold: 3 },
    })
    await stage.clock.advance(60_000)
    expect(stage.pending).toBe(200)
    expect(rig.of('breaker.state')[0]?.name).toBe('relay sick')
    well = true
    await stage.clock.advance(70_000)
    expect(stage.pending).toBe(0)
  })

  it('that never answers takes half of the room at most', async () => {
    const stage = new RelayStage()
    await stage.appendTo('stalled', ...range(0, 200))
    await stage.append(...range(200, 400))
    const answer = ({ to }: Envelope): SendOutcome | null =>
      to.kind === 'topic' && to.topic === 'stalled' ? null : CONFIRMED
    await stage.relay({ answer, inFlight: 40, batchSize: 10 })
    await stage.clock.advance(20_000)
    expect(stage.pending).toBe(200)
  })
})

describe('looking for rows', () => {
  it('finds at once what is appended in this process', async () => {
    const stage = new RelayStage()
    const rig = await stage.relay(confirming)
    await stage.clock.advance(10_000)
    const before = stage.clock.now()
    await stage.clock.run(
      stage.database.transaction(async (tx) => {
        await rig.store.append(tx, [outboxRow(envelope('a'))])
      }),
    )
    await stage.clock.settle()
    expect([rig.sent, stage.clock.now()]).toEqual([['a'], before])
  })

  it('reads together what follows closely', async () => {
    const stage = new RelayStage()
    const rig = stage.idle(confirming)
    const found: number[] = []
    const { read } = rig.store
    rig.store.read = async (...given) => {
      const rows = await read.apply(rig.store, given)
      if (rows.length > 0) found.push(rows.length)
      return rows
    }
    await stage.clock.run(rig.relay.start())
    await stage.clock.advance(10_000)
    for (let n = 0; n < 40; n++) {
      await stage.clock.run(
        stage.database.transaction(async (tx) => {
          await rig.store.append(tx, [outboxRow(envelope(`m${n}`))])
        }),
      )
      await stage.clock.advance(0.25)
    }
    await stage.clock.advance(10)
    expect(rig.sent).toHaveLength(40)
    expect(found.length).toBeLessThanOrEqual(8)
  })

  it('finds what others append within the poll time', async () => {
    const stage = new RelayStage()
    const rig = await stage.relay({ ...confirming, pollMs: 250 })
    await stage.clock.advance(10_000)
    await stage.append('a')
    await stage.clock.advance(250)
    expect(rig.sent).toEqual(['a'])
  })

  it('asks seldom while there is nothing', async () => {
    const stage = new RelayStage()
    const rig = stage.idle({ ...confirming, pollMs: 250 })
    let reads = 0
    const { read } = rig.store
    rig.store.read = (...given) => {
      reads++
      return read.apply(rig.store, given)
    }
    await stage.clock.run(rig.relay.start())
    await stage.clock.advance(60_000)
    expect(reads).toBeLessThanOrEqual(245)
  })

  it('moves scheduled rows when they are due, never early, without a schedule for the broker', async () => {
    const stage = new RelayStage()
    await stage.schedule('late', 30_000)
    await stage.schedule('soon', 2_000)
    const rig = await stage.relay(confirming)
    await stage.clock.advance(1_999)
    expect(rig.sent).toEqual([])
    await stage.clock.advance(300)
    expect(rig.sent).toEqual(['soon'])
    await stage.clock.advance(30_000)
    expect(rig.sent).toEqual(['soon', 'late'])
    expect(
      rig.broker.sends.flatMap(({ batch }) => batch.map(({ deliverAtMs }) => deliverAtMs)),
    ).toEqual([null, null])
  })

  it('leaves no date to the broker, whatever the store keeps of it', async () => {
    const stage = new RelayStage()
    await stage.append('a')
    const rig = stage.idle(confirming)
    const { read } = rig.store
    rig.store.read = async (...given) => {
      const rows = await read.apply(rig.store, given)
      return rows.map((row) => ({ ...row, envelope: { ...row.envelope, deliverAtMs: 5 } }))
    }
    await stage.clock.run(rig.relay.start())
    await stage.clock.advance(100)
    expect(rig.broker.last.batch.map(({ deliverAtMs }) => deliverAtMs)).toEqual([null])
  })

  it('goes on after errors of the store, telling each', async () => {
    const stage = new RelayStage()
    await stage.append('a')
    const rig = stage.idle(confirming)
    const { read, lease, complete } = rig.store
    let failures = 0
    const failing =
      <A extends unknown[], T>(call: (...given: A) => Promise<T>) =>
      (...given: A): Promise<T> =>
        ++failures % 3 === 0 ? call.apply(rig.store, given) : Promise.reject(new Error('gone'))
    rig.store.read = failing(read)
    rig.store.lease = failing(lease)
    rig.store.complete = failing(complete)
    await stage.clock.run(rig.relay.start())
    await stage.clock.advance(30_000)
    expect([rig.sent, stage.pending]).toEqual([['a'], 0])
    expect(new Set(rig.of('relay.error').map(({ step }) => step))).toEqual(
      new Set(['lease', 'read', 'complete']),
    )
    expect(await stage.leakedTimers()).toBe(0)
  })

  it('gives a call of the store up that never ends, and tries again', async () => {
    const stage = new RelayStage()
    await stage.append('a')
    const rig = stage.idle(confirming)
    const { read } = rig.store
    let hangs = 2
    rig.store.read = (...given) =>
      hangs-- > 0 ? new Promise(() => undefined) : read.apply(rig.store, given)
    await stage.clock.run(rig.relay.start())
    await stage.clock.advance(30_000)
    expect([rig.sent, stage.pending]).toEqual([['a'], 0])
  })
})

describe('leases', () => {
  it('are shared fairly between relays and taken over when one leaves', async () => {
    const stage = new RelayStage()
    const one = await stage.relay(confirming)
    expect(one.of('relay.leases').at(-1)).toMatchObject({ held: 8, contenders: 1 })
    const other = await stage.relay(confirming)
    await stage.clock.advance(20_000)
    expect(one.of('relay.leases').at(-1)).toMatchObject({ held: 4, contenders: 2 })
    expect(other.of('relay.leases').at(-1)).toMatchObject({ held: 4, contenders: 2 })
    await stage.clock.run(one.relay.drain())
    await stage.clock.advance(40_000)
    expect(other.of('relay.leases').at(-1)).toMatchObject({ held: 8, contenders: 1 })
  })

  it('are given back only after the rows of the bucket have ended', async () => {
    const stage = new RelayStage()
    await stage.append(...range(0, 64))
    const one = await stage.relay()
    await stage.clock.advance(100)
    expect(one.sent).toHaveLength(64)
    const other = await stage.relay(confirming)
    await stage.clock.advance(30_000)
    expect(other.sent).toEqual([])
    one.broker.last.confirm()
    await stage.clock.advance(20_000)
    expect([stage.pending, other.of('relay.leases').at(-1)]).toMatchObject([0, { held: 4 }])
  })

  it('age from before they were asked for: a slow answer does not prolong them (O-V7)', async () => {
    const stage = new RelayStage()
    const rig = stage.idle({ ...confirming, leaseMs: 3_000, pollMs: 10 })
    const { lease } = rig.store
    let calls = 0
    rig.store.lease = (...given): Promise<LeaseGrant> => {
      if (++calls > 1) return new Promise(() => undefined)
      const granted = lease.apply(rig.store, given)
      return new Promise((resolve) => stage.clock.after(900, () => resolve(granted)))
    }
    await stage.clock.run(rig.relay.start())
    await stage.clock.advance(1_000)
    await stage.append('in time')
    await stage.clock.advance(100)
    expect(rig.sent).toEqual(['in time'])
    // Leased at 0 for 3 000 ms, a fifth of that is the margin: nothing is begun from 2 400 on.
    await stage.clock.advance(2_400 - stage.clock.now())
    await stage.append('too late')
    await stage.clock.advance(5_000)
    expect(rig.sent).toEqual(['in time'])
  })

  it('end what may still be sent: rows held until then are not sent after it', async () => {
    const stage = new RelayStage()
    await stage.append('a')
    const topics = { orders: { groups: ['g'] } }
    const rig = stage.idle({ ...confirming, topics, leaseMs: 3_000 })
    rig.broker.finding = () => new Promise((resolve) => stage.clock.after(4_000, () => resolve([])))
    await stage.clock.run(rig.relay.start())
    await stage.clock.advance(100)
    expect(rig.broker.provisioned).toHaveLength(1)
    rig.store.lease = () => new Promise(() => undefined)
    await stage.clock.advance(20_000)
    expect([rig.sent, stage.pending]).toEqual([[], 1])
  })

  it('that were lost and are had again do not send what was read before', async () => {
    const stage = new RelayStage()
    await stage.append('a')
    const topics = { orders: { groups: ['g'] } }
    const given = { ...confirming, topics, leaseMs: 3_000, sendTimeoutMs: 60_000 }
    const sleeper = stage.idle(given)
    sleeper.broker.finding = () => new Promise(() => undefined)
    await stage.clock.run(sleeper.relay.start())
    await stage.clock.advance(100)
    const { lease } = sleeper.store
    sleeper.store.lease = () => Promise.reject(new Error('away'))
    const heir = await stage.relay({ ...confirming, leaseMs: 3_000 })
    await stage.clock.advance(10_000)
    expect([heir.sent, stage.pending]).toEqual([['a'], 0])
    await stage.clock.run(heir.relay.drain())
    sleeper.store.lease = lease
    await stage.clock.advance(5_000)
    sleeper.broker.finding = () => Promise.resolve([])
    await stage.append('b')
    await stage.clock.advance(10_000)
    expect([sleeper.sent, stage.pending]).toEqual([['b'], 0])
  })

  it('bound how long the broker may take for a row', async () => {
    const stage = new RelayStage()
    await stage.append('a')
    const { broker } = await stage.relay({ leaseMs: 3_000 })
    await stage.clock.advance(50)
    expect(broker.last.deadline).toBeLessThanOrEqual(2_400)
  })
})

describe('start', () => {
  it('rejects when the outbox cannot be opened, and may be tried again', async () => {
    const stage = new RelayStage()
    const rig = stage.idle(confirming)
    const { open } = rig.store
    rig.store.open = () => Promise.reject(new StorageError('storage-corrupt', 'not a database'))
    await expect(rig.relay.start()).rejects.toMatchObject({ code: 'storage-corrupt' })
    rig.store.open = open
    await stage.append('a')
    await stage.clock.run(rig.relay.start())
    expect(rig.relay.state).toBe('running')
    await stage.clock.run(rig.relay.start())
    await stage.clock.advance(300)
    expect(rig.sent).toEqual(['a'])
  })
})

describe('drain', () => {
  it('ends what is in flight, reads no more, gives the leases back and closes', async () => {
    const stage = new RelayStage()
    await stage.append(...range(0, 10))
    const rig = await stage.relay()
    await stage.clock.advance(100)
    const drain = rig.relay.drain({ timeoutMs: 10_000 })
    expect(rig.relay.state).toBe('draining')
    await stage.append('later')
    await stage.clock.advance(1_000)
    rig.broker.last.confirm()
    await stage.clock.run(drain)
    expect([stage.pending, rig.sent.length, rig.relay.state]).toEqual([1, 10, 'closed'])
    expect(stage.clock.now()).toBeLessThan(2_000)
    const next = await stage.relay(confirming)
    await stage.clock.advance(100)
    expect([stage.pending, next.sent]).toEqual([0, ['later']])
    expect(await stage.leakedTimers()).toBe(0)
  })

  it('gives back what it is granted while it stops', async () => {
    const stage = new RelayStage()
    const rig = stage.idle({ ...confirming, leaseMs: 3_000 })
    const { lease } = rig.store
    // Longer than a call is waited for.
    rig.store.lease = (...given) =>
      new Promise((resolve) => {
        stage.clock.after(1_500, () => resolve(lease.apply(rig.store, given)))
      })
    await stage.clock.run(rig.relay.start())
    await stage.clock.advance(1_200)
    await stage.clock.run(rig.relay.drain())
    const next = await stage.relay(confirming)
    await stage.clock.advance(100)
    expect(next.of('relay.leases').at(-1)).toMatchObject({ held: 8, contenders: 1 })
  })

  it('is bounded: what is not answered stays in the outbox', async () => {
    const stage = new RelayStage()
    await stage.append('a', 'b')
    const rig = await stage.relay()
    await stage.clock.advance(100)
    const before = stage.clock.now()
    await stage.clock.run(rig.relay.drain({ timeoutMs: 5_000 }))
    expect(stage.clock.now() - before).toBeLessThanOrEqual(5_001)
    expect([stage.pending, stage.clock.timers]).toEqual([2, 0])
  })

  it('works before start and twice, and start after it is refused', async () => {
    const stage = new RelayStage()
    const rig = stage.idle(confirming)
    await stage.clock.run(rig.relay.drain())
    await stage.clock.run(rig.relay[Symbol.asyncDispose]())
    await expect(rig.relay.start()).rejects.toBeInstanceOf(ClosedError)
    expect([rig.relay.state, stage.clock.timers]).toEqual(['closed', 0])
  })
})

describe('close', () => {
  it('stops at once and still deletes what was confirmed', async () => {
    const stage = new RelayStage()
    await stage.append('a', 'b')
    const rig = await stage.relay()
    await stage.clock.advance(100)
    rig.broker.last.confirm(0, 1)
    await stage.clock.run(rig.relay.close({ timeoutMs: 1_000 }))
    expect([stage.pending, stage.clock.timers, rig.relay.state]).toEqual([1, 0, 'closed'])
  })

  it('does not hang on a store that never answers', async () => {
    const stage = new RelayStage()
    await stage.append('a')
    const rig = await stage.relay()
    await stage.clock.advance(100)
    rig.store.complete = () => new Promise(() => undefined)
    rig.store.release = () => new Promise(() => undefined)
    rig.broker.last.confirm()
    await stage.clock.settle()
    const before = stage.clock.now()
    await stage.clock.run(rig.relay.close({ timeoutMs: 1_000 }))
    expect(stage.clock.now() - before).toBeLessThanOrEqual(1_100)
    await stage.clock.advance(10_000)
    expect(stage.clock.timers).toBe(0)
  })
})
