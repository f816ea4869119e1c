import { describe, expect, it } from 'vitest'

import { ClosedError } from '../../../src/contract/errors.ts'
import { envelope, envelopes, Rig } from './rig.ts'

const toDead = { kind: 'dead', topic: 't', group: 'g' } as const

describe('sending to the memory broker', () => {
  it('tells one range for a batch, in a later turn', async () => {
    const rig = await Rig.open()
    const ranges: string[] = []
    rig.broker.sender('publish').send(envelopes(500), 1_000, (from, to, { status }) => {
      ranges.push(`${from}-${to} ${status}`)
    })
    expect(ranges).toEqual([])
    await rig.clock.settle()
    expect(ranges).toEqual(['0-500 confirmed'])
  })

  it('stores before anybody is told, so that a consumer may be first to know', async () => {
    const rig = await Rig.open()
    const outcomes = rig.start([envelope('x')])
    expect(await rig.broker.inspect.depth({ ...toDead, kind: 'group', delayMs: 0 })).toBe(1)
    expect(outcomes.words).toEqual(['open'])
  })

  it('tells the partition and offset where a topic has partitions', async () => {
    const rig = await Rig.open()
    await rig.declare({ name: 'p', partitions: 1 })
    const to = { kind: 'topic', topic: 'p' } as const
    const outcomes = rig.start([envelope('a', { to }), envelope('b', { to })])
    await rig.clock.settle()
    const at = (offset: string): unknown => ({
      status: 'confirmed',
      at: { partition: 0, offset },
    })
    expect(outcomes.all).toEqual([at('0'), at('1')])
  })

  it('refuses when a group has as many messages waiting as it may', async () => {
    const rig = await Rig.open({ maxDepth: 3 })
    const words = await rig.send(envelopes(4))
    expect(words).toEqual(['confirmed', 'confirmed', 'confirmed', 'refused rejected'])
    const outcome = rig.start([envelope('x')])
    await rig.clock.settle()
    expect(outcome.all[0]).toMatchObject({ error: { retryable: true } })
    expect(String((outcome.all[0] as { error: Error }).error)).toMatch(/maxDepth/)
  })

  it('stores a message in all groups or in none', async () => {
    const rig = await Rig.open({ maxDepth: 1 })
    await rig.declare({ groups: ['g', 'h'] })
    await rig.send([
      envelope('only for h', { to: { kind: 'group', topic: 't', group: 'h', delayMs: 0 } }),
    ])
    expect(await rig.send([envelope('for both')])).toEqual(['refused rejected'])
    expect(
      await rig.broker.inspect.depth({ kind: 'group', topic: 't', group: 'g', delayMs: 0 }),
    ).toBe(0)
  })

  it('confirms and stores nothing where a topic was declared with no groups', async () => {
    const rig = await Rig.open()
    await rig.declare({ name: 'void', groups: [] })
    const to = { kind: 'topic', topic: 'void' } as const
    expect(await rig.send([envelope('x', { to })])).toEqual(['confirmed'])
    expect(await rig.broker.inspect.depth(to)).toBe(0)
  })

  it('refuses where the last group was deleted: nobody said to store nothing', async () => {
    const rig = await Rig.open()
    rig.broker.faults.deleteDestination('t', 'g')
    expect(await rig.send([envelope('x')])).toEqual(['refused unroutable'])
  })

  it('refuses dead letters and copies for a group that is not there', async () => {
    const rig = await Rig.open()
    const words = await rig.send([
      envelope('x', { to: { ...toDead, group: 'nobody' } }),
      envelope('x', { to: { kind: 'group', topic: 't', group: 'nobody', delayMs: 0 } }),
      envelope('x', { to: { kind: 'reply', address: 'somewhere' } }),
      envelope('x', { to: toDead }),
    ])
    expect(words).toEqual([
      'refused unroutable',
      'refused unroutable',
      'refused unroutable',
      'confirmed',
    ])
  })

  it('takes a body limit for each topic', async () => {
    const rig = await Rig.open({ maxBodyBytes: { t: 4 } })
    await rig.declare({ name: 'u' })
    const to = { kind: 'topic', topic: 'u' } as const
    expect(await rig.send([envelope('1234'), envelope('12345')])).toEqual([
      'confirmed',
      'refused too-large',
    ])
    expect(await rig.send([envelope('12345', { to })])).toEqual(['confirmed'])
  })

  it('throws on a closed sender, and reports nothing any more', async () => {
    const rig = await Rig.open()
    const sender = rig.broker.sender('publish')
    await rig.clock.run(sender.close(1_000))
    expect(() => sender.send([envelope('x')], 1_000, () => undefined)).toThrow(ClosedError)
  })

  it('throws before open() and after close(), naming the call', async () => {
    const rig = new Rig()
    expect(() => rig.broker.sender('publish')).toThrow(/memory broker \(sender\(\)\)/)
    await rig.open()
    await rig.close()
    expect(() => rig.broker.sender('publish')).toThrow(ClosedError)
  })
})

describe('faults of sending', () => {
  it('refuses as often as asked, matching ones only, and counts', async () => {
    const rig = await Rig.open()
    const fault = rig.broker.faults.refuseSends({
      times: 2,
      match: ({ orderKey }) => orderKey === 'k',
      code: 'rejected',
      retryable: false,
    })
    const words = await rig.send([envelope('0'), envelope('1', { key: 'k' })])
    expect(words).toEqual(['confirmed', 'refused rejected'])
    expect(fault.hits).toBe(1)
    expect(await rig.send([envelope('2', { key: 'k' })])).toEqual(['refused rejected'])
    expect(await rig.send([envelope('3', { key: 'k' })])).toEqual(['confirmed'])
    expect(
      rig.broker.published('t').map(({ envelope: one }) => Buffer.from(one.body!).toString()),
    ).toEqual(['0', '3'])
  })

  it('loses a confirm: stored, and unknown', async () => {
    const rig = await Rig.open()
    rig.broker.faults.loseConfirms()
    expect(await rig.send(envelopes(2))).toEqual(['unknown unanswered', 'confirmed'])
    expect(rig.broker.published('t')).toHaveLength(2)
  })

  it('loses a send: not stored, and just as unknown', async () => {
    const rig = await Rig.open()
    rig.broker.faults.loseSends()
    expect(await rig.send(envelopes(2))).toEqual(['unknown unanswered', 'confirmed'])
    expect(rig.broker.published('t')).toHaveLength(1)
  })

  it('stores nothing of a key behind one that failed, and everything of others', async () => {
    const rig = await Rig.open()
    rig.broker.faults.loseConfirms({ match: ({ orderKey }) => orderKey === 'a' })
    const words = await rig.send([
      envelope('a0', { key: 'a' }),
      envelope('a1', { key: 'a' }),
      envelope('b0', { key: 'b' }),
    ])
    expect(words).toEqual(['unknown unanswered', 'refused predecessor', 'confirmed'])
    expect(await rig.send([envelope('a2', { key: 'a' })])).toEqual(['confirmed'])
  })

  it('goes on behind one that failed where runs of a key are not handed over', async () => {
    const rig = await Rig.open({ capabilities: { keyRunsInOneSend: false } })
    rig.broker.faults.refuseSends()
    expect(await rig.send(envelopes(2, 'a', 'a'))).toEqual(['refused rejected', 'confirmed'])
  })

  it('delays confirms, and calls unknown what has its deadline before', async () => {
    const rig = await Rig.open()
    const fault = rig.broker.faults.delayConfirms(100)
    const patient = rig.start([envelope('x')], 1_000)
    const hasty = rig.start([envelope('y')], 50)
    await rig.clock.advance(49)
    expect([patient.words, hasty.words]).toEqual([['open'], ['open']])
    await rig.clock.advance(1)
    expect(hasty.words).toEqual(['unknown timeout'])
    await rig.clock.advance(50)
    expect(patient.words).toEqual(['confirmed'])
    fault.end()
    expect(await rig.send([envelope('z')])).toEqual(['confirmed'])
  })

  it('answers at once what was late when the fault ends', async () => {
    const rig = await Rig.open()
    const fault = rig.broker.faults.stall('t')
    const outcomes = rig.start([envelope('x')])
    await rig.clock.advance(100)
    expect(outcomes.words).toEqual(['open'])
    fault.end()
    fault.end()
    await rig.clock.settle()
    expect(outcomes.words).toEqual(['confirmed'])
    expect(rig.clock.timers).toBe(0)
  })

  it('writes what was held back in the order in which it was sent', async () => {
    const rig = await Rig.open()
    const fault = rig.broker.faults.holdBack('t')
    const first = rig.start(envelopes(2, 'a', 'k'))
    const second = rig.start(envelopes(2, 'b', 'k'))
    await rig.clock.advance(100)
    expect([...first.words, ...second.words]).toEqual(['open', 'open', 'open', 'open'])
    fault.end()
    const third = rig.start([envelope('c0', { key: 'k' })])
    await rig.clock.settle()
    expect([...first.words, ...second.words, ...third.words]).toEqual(Array(5).fill('confirmed'))
    const ear = await rig.listen()
    expect(ear.bodies).toEqual(['a0', 'a1', 'b0', 'b1', 'c0'])
  })

  it('stores a send in any order only where that is allowed', async () => {
    const random = { next: () => 0, fill: () => undefined }
    const ordered = await Rig.open()
    expect(() => ordered.broker.faults.shuffleSends(random)).toThrow(/keyRunsInOneSend/)
    const rig = await Rig.open({ capabilities: { keyRunsInOneSend: false } })
    rig.broker.faults.shuffleSends(random)
    await rig.send(envelopes(4))
    rig.broker.faults.shuffleSends(null)
    await rig.send(envelopes(2, 'z'))
    const { bodies } = await rig.listen()
    expect([...bodies].sort()).toEqual(['0', '1', '2', '3', 'z0', 'z1'])
    expect(bodies.slice(0, 4)).not.toEqual(['0', '1', '2', '3'])
    expect(bodies.slice(4)).toEqual(['z0', 'z1'])
  })
})

describe('a connection of the memory broker', () => {
  it('writes while blocked nothing, after that everything, in order', async () => {
    const rig = await Rig.open()
    const states: string[] = []
    rig.broker.onState(({ status, reason }) => void states.push(`${status} ${reason}`))
    rig.broker.faults.block('memory alarm')
    const kept = rig.start(envelopes(2), 1_000)
    const hasty = rig.start([envelope('late')], 100)
    await rig.clock.advance(100)
    expect(hasty.words).toEqual(['refused not-sent'])
    expect(kept.words).toEqual(['open', 'open'])
    rig.broker.faults.unblock()
    await rig.clock.settle()
    expect(kept.words).toEqual(['confirmed', 'confirmed'])
    expect(states).toEqual(['up null', 'blocked memory alarm', 'up null'])
    expect((await rig.listen()).bodies).toEqual(['0', '1'])
    expect(rig.clock.timers).toBe(0)
  })

  it('settles while blocked', async () => {
    const rig = await Rig.open()
    const ear = await rig.listen()
    await rig.send([envelope('x')])
    rig.broker.faults.block()
    ear.deliveries[0]?.ack()
    await ear.receiver.flush(1_000)
    expect(await rig.broker.inspect.depth({ kind: 'topic', topic: 't' })).toBe(0)
  })

  it('calls unknown what was not confirmed when it broke, and writes the rest when it is back', async () => {
    const rig = await Rig.open()
    const written = rig.start([envelope('written')])
    rig.broker.faults.down('cable')
    const waiting = rig.start([envelope('waiting')])
    const hasty = rig.start([envelope('hasty')], 50)
    await rig.clock.advance(60)
    expect(written.words).toEqual(['unknown connection-lost'])
    expect(hasty.words).toEqual(['refused not-sent'])
    rig.broker.faults.up()
    await rig.clock.settle()
    expect(waiting.words).toEqual(['confirmed'])
    expect((await rig.listen()).bodies).toEqual(['written', 'waiting'])
  })

  it('keeps a refusal that was known when it broke', async () => {
    const rig = await Rig.open({ maxBodyBytes: 1 })
    const outcomes = rig.start([envelope('xx'), envelope('x')])
    rig.broker.faults.down()
    await rig.clock.settle()
    expect(outcomes.words).toEqual(['refused too-large', 'unknown connection-lost'])
  })

  it('refuses provisioning and receiving while it is down', async () => {
    const rig = await Rig.open()
    rig.broker.faults.down()
    await expect(rig.declare({ name: 'u' })).rejects.toMatchObject({ code: 'unavailable' })
    await expect(rig.listen()).rejects.toMatchObject({ code: 'unavailable' })
  })

  it('waits with opening until the broker can be reached', async () => {
    const rig = new Rig()
    rig.broker.faults.down('not started yet')
    let open = false
    const opening = rig.open().then(() => (open = true))
    await rig.clock.settle()
    expect(open).toBe(false)
    rig.broker.faults.up()
    await opening
    expect(open).toBe(true)
  })

  it('gives opening up when the signal aborts, and opens later all the same', async () => {
    const rig = new Rig()
    rig.broker.faults.down()
    const opening = rig.open()
    rig.abort.abort(new Error('enough'))
    await expect(opening).rejects.toThrow('enough')
    const again = new Rig({ sameAs: rig.broker })
    await again.open()
    await again.close()
  })

  it('ends a waiting open() when it is closed', async () => {
    const rig = new Rig()
    rig.broker.faults.down()
    const opening = rig.open()
    opening.catch(() => undefined)
    await rig.broker.close(0)
    await expect(opening).rejects.toBeInstanceOf(ClosedError)
  })

  it('answers for everything at close: unsent refused at once, late answers within its deadline', async () => {
    const rig = await Rig.open()
    rig.broker.faults.stall('t')
    const late = rig.start([envelope('late')], 60_000)
    rig.broker.faults.block()
    const unsent = rig.start([envelope('unsent')], 60_000)
    const closing = rig.broker.close(rig.clock.now() + 500)
    await rig.clock.settle()
    expect(unsent.words).toEqual(['refused not-sent'])
    expect(late.words).toEqual(['open'])
    await rig.clock.advance(500)
    await closing
    expect(late.words).toEqual(['unknown timeout'])
    expect(rig.clock.timers).toBe(0)
  })

  it('reports nothing, delivers nothing and keeps no timer after close', async () => {
    const rig = await Rig.open()
    const ear = await rig.listen()
    await rig.send([envelope('later', { deliverAtMs: rig.clock.wallMs() + 1_000 })])
    expect(rig.clock.timers).toBe(1)
    await rig.close()
    expect(rig.clock.timers).toBe(0)
    await rig.clock.advance(5_000)
    expect(ear.deliveries).toEqual([])
    expect(ear.ends).toEqual([undefined])
  })

  it('keeps its topics when it is closed, for opening again', async () => {
    const rig = await Rig.open()
    await rig.send([envelope('x')])
    await rig.close()
    await rig.open()
    expect((await rig.listen()).bodies).toEqual(['x'])
  })

  it('can be opened again when it was closed in the middle of a restart', async () => {
    const rig = await Rig.open()
    rig.broker.faults.stall('t')
    const late = rig.start([envelope('x')], 60_000)
    const restarted = rig.broker.faults.restart()
    const closed = rig.broker.close(rig.clock.now() + 1_000)
    await rig.clock.run(Promise.all([restarted, closed]))
    expect(late.words).toEqual(['unknown connection-lost'])
    await rig.open()
    expect((await rig.listen()).bodies).toEqual(['x'])
  })

  it('dies without a word: what it held goes to others, what it waited for is never told', async () => {
    const rig = await Rig.open()
    const other = await rig.another()
    const ear = await rig.listen()
    await rig.send([envelope('x')])
    rig.broker.faults.stall('t')
    const outcomes = rig.start([envelope('y')])
    rig.broker.faults.crash()
    const taker = await other.listen()
    await rig.clock.advance(60_000)
    expect(outcomes.words).toEqual(['open'])
    expect(ear.ends).toEqual([])
    expect(taker.bodies).toEqual(['x', 'y'])
    rig.start([envelope('from the grave')])
    await rig.clock.settle()
    expect(taker.bodies).toEqual(['x', 'y'])
    await rig.close()
  })
})
