import { describe, expect, it } from 'vitest'

import type { Delivery } from '../../../src/contract/broker.ts'
import { CapabilityError } from '../../../src/contract/errors.ts'
import { envelope, envelopes, Rig, type Ear } from './rig.ts'

const group = { kind: 'group', topic: 't', group: 'g', delayMs: 0 } as const

function holdersOf(ears: readonly Ear[]): readonly (readonly string[])[] {
  return ears.map(({ bodies }) => bodies)
}

describe('receivers of one group', () => {
  it('take turns', async () => {
    const rig = await Rig.open()
    const ears = [await rig.listen(), await rig.listen(), await rig.listen()]
    await rig.send(envelopes(7))
    expect(holdersOf(ears)).toEqual([
      ['0', '3', '6'],
      ['1', '4'],
      ['2', '5'],
    ])
  })

  it('leave out of the turn whoever has no room', async () => {
    const rig = await Rig.open()
    const narrow = await rig.listen({ maxHeld: { messages: 1, bytes: 1_000 } })
    const wide = await rig.listen()
    await rig.send(envelopes(5))
    expect(holdersOf([narrow, wide])).toEqual([['0'], ['1', '2', '3', '4']])
  })

  it('share a queue that is ordered by key so that one key is in one hand', async () => {
    const rig = await Rig.open()
    const maxHeld = { messages: 2, bytes: 1_000 }
    const [one, other] = [
      await rig.listen({ ordering: 'key', maxHeld }),
      await rig.listen({ ordering: 'key', maxHeld }),
    ]
    await rig.send([...envelopes(4, 'a', 'a'), ...envelopes(2, 'b', 'b')])
    // Key a is with the first, which is full: its rest waits there, key b goes on.
    expect(holdersOf([one, other])).toEqual([
      ['a0', 'a1'],
      ['b0', 'b1'],
    ])
    expect(await rig.broker.inspect.depth(group)).toBe(6)
    other.deliveries[0]?.ack()
    other.deliveries[1]?.ack()
    await rig.clock.settle()
    expect(other.bodies).toEqual(['b0', 'b1'])
    one.deliveries[0]?.ack()
    await rig.clock.settle()
    expect(one.bodies).toEqual(['a0', 'a1', 'a2'])
    await one.receiver.close(0)
    await rig.clock.settle()
    expect(other.bodies).toEqual(['b0', 'b1', 'a1', 'a2'])
    expect(await rig.broker.inspect.depth(group)).toBe(3)
  })

  it('know the keys that somebody held before the second came', async () => {
    const rig = await Rig.open()
    const one = await rig.listen({ ordering: 'key', maxHeld: { messages: 1, bytes: 1_000 } })
    await rig.send([envelope('a0', { key: 'a' })])
    const other = await rig.listen({ ordering: 'key' })
    await rig.send([envelope('a1', { key: 'a' }), envelope('b0', { key: 'b' })])
    expect(holdersOf([one, other])).toEqual([['a0'], ['b0']])
    one.deliveries[0]?.ack()
    await rig.clock.settle()
    expect(one.bodies).toEqual(['a0', 'a1'])
  })

  it('wait behind a key whose backlog is full, and lose nothing by it', async () => {
    const rig = await Rig.open()
    const one = await rig.listen({ ordering: 'key', maxHeld: { messages: 1, bytes: 1_000 } })
    await rig.send([envelope('first', { key: 'a' })])
    const other = await rig.listen({ ordering: 'key' })
    await rig.send([...envelopes(1_500, 'a', 'a'), envelope('b', { key: 'b' })])
    expect(other.bodies).toEqual([])
    one.onDelivery = (delivery) => delivery.ack()
    one.deliveries[0]?.ack()
    await rig.clock.settle()
    expect(one.bodies).toEqual(['first', ...envelopes(1_500).map((_, n) => `a${n}`)])
    expect(other.bodies).toEqual(['b'])
  })

  it('have one owner for each partition, and share them out evenly', async () => {
    const rig = await Rig.open()
    await rig.declare({ name: 'p', partitions: 4 })
    const topics = ['p']
    const first = await rig.listen({ topics })
    const second = await rig.listen({ topics })
    await rig.clock.settle()
    const to = { kind: 'topic', topic: 'p' } as const
    await rig.send(Array.from({ length: 40 }, (_, n) => envelope(`${n}`, { to, key: `k${n}` })))
    const owners = (ear: Ear): readonly string[] => [
      ...new Set(ear.deliveries.map(({ source }) => source.name)),
    ]
    expect([...owners(first), ...owners(second)].sort()).toEqual([
      'p.g.0',
      'p.g.1',
      'p.g.2',
      'p.g.3',
    ])
    expect(owners(first)).toHaveLength(2)
    // What the first had to give up it was asked for, and then told.
    expect(first.revoked.map(({ name }) => name)).toEqual(['p.g.1', 'p.g.3'])
    expect(first.lostSources).toEqual(first.revoked)
  })

  it('have one owner for the whole queue when they want partition order', async () => {
    const rig = await Rig.open()
    const first = await rig.listen({ ordering: 'partition' })
    const second = await rig.listen({ ordering: 'partition' })
    await rig.send(envelopes(3))
    expect(holdersOf([first, second])).toEqual([['0', '1', '2'], []])
    first.deliveries[0]?.ack()
    await first.receiver.close(0)
    await rig.clock.settle()
    expect(second.bodies).toEqual(['1', '2'])
  })
})

describe('a receiver', () => {
  it('gets what was released at its place, with the same attempt', async () => {
    const rig = await Rig.open()
    const ear = await rig.listen({ maxHeld: { messages: 2, bytes: 1_000 } })
    await rig.send(envelopes(4))
    ear.deliveries[1]?.release()
    ear.deliveries[0]?.release()
    await rig.clock.settle()
    expect(ear.bodies).toEqual(['0', '1', '0', '1'])
    expect(ear.deliveries.map(({ attempt }) => attempt)).toEqual([1, 1, 1, 1])
    expect(ear.deliveries.map(({ redelivered }) => redelivered)).toEqual(['no', 'no', 'yes', 'yes'])
  })

  it('gets a retry when it is due, not before, one attempt higher', async () => {
    const rig = await Rig.open()
    const ear = await rig.listen()
    await rig.send([envelope('x')])
    ear.deliveries[0]?.retry?.(100)
    await rig.clock.advance(99)
    expect(ear.bodies).toEqual(['x'])
    expect(await rig.broker.inspect.depth(group)).toBe(1)
    await rig.clock.advance(1)
    expect(ear.bodies).toEqual(['x', 'x'])
    expect(ear.deliveries[1]).toMatchObject({ attempt: 2, redelivered: 'yes' })
  })

  it('keeps a retry waiting over a restart and over closing everything', async () => {
    const rig = await Rig.open()
    const ear = await rig.listen()
    await rig.send([envelope('x')])
    ear.deliveries[0]?.retry?.(100)
    await rig.clock.run(rig.broker.faults.restart())
    await rig.close()
    await rig.clock.advance(500)
    await rig.open()
    const taker = await rig.listen()
    await rig.clock.advance(0)
    expect(taker.deliveries[0]).toMatchObject({ attempt: 2 })
  })

  it('waits only for levels that were declared, and says which there are', async () => {
    const rig = await Rig.open({ capabilities: { retryDelay: 'levels', attemptCount: 'header' } })
    await rig.declare({ name: 'l', retryLevelsMs: [50, 200] })
    const to = { kind: 'group', topic: 'l', group: 'g', delayMs: 100 } as const
    const outcome = rig.start([envelope('x', { to })])
    await rig.clock.settle()
    expect(outcome.words).toEqual(['refused unroutable'])
    expect(String((outcome.all[0] as { error: Error }).error)).toMatch(/there are: 50, 200/)
    await rig.send([envelope('x', { to: { ...to, delayMs: 200 } })])
    expect(await rig.broker.inspect.depth({ ...to, delayMs: 200 })).toBe(1)
    const ear = await rig.listen({ topics: ['l'] })
    await rig.clock.advance(199)
    expect(ear.deliveries).toEqual([])
    await rig.clock.advance(1)
    expect(ear.deliveries[0]?.envelope.to).toEqual({ kind: 'topic', topic: 'l' })
    expect(ear.deliveries[0]?.redelivered).toBe('maybe')
    expect('retry' in (ear.deliveries[0] as Delivery)).toBe(false)
  })

  it('knows from the header how often a copy was tried', async () => {
    const rig = await Rig.open({ capabilities: { retryDelay: 'levels', attemptCount: 'header' } })
    const ear = await rig.listen()
    const counts = ['2', '007', '-1', 'many', '1e3']
    await rig.send(counts.map((count) => envelope('x', { headers: [['holdfast-attempt', count]] })))
    expect(ear.deliveries.map(({ attempt }) => attempt)).toEqual([3, 8, 1, 1, 1])
    expect(ear.deliveries.map(({ redelivered }) => redelivered)).toEqual([
      'yes',
      'yes',
      'no',
      'no',
      'no',
    ])
  })

  it('starts at the earliest message where history is kept', async () => {
    const rig = await Rig.open({ history: true })
    await rig.send(envelopes(2, 'old '))
    await rig.declare({ groups: ['g', 'late'] })
    await rig.send(envelopes(1, 'new '))
    const copy = { kind: 'group', topic: 't', group: 'late', delayMs: 0 } as const
    await rig.send([envelope('copy', { to: copy })])
    const ear = await rig.listen({ group: 'late', from: 'earliest' })
    expect(ear.bodies).toEqual(['old 0', 'old 1', 'new 0', 'copy'])
    for (const delivery of ear.deliveries) delivery.ack()
    await ear.receiver.close(0)
    expect((await rig.listen({ group: 'late', from: 'earliest' })).bodies).toEqual([])
  })

  it("is refused 'earliest' where that is gone, and gets it where nothing is missing", async () => {
    const rig = await Rig.open()
    await rig.send([envelope('x')])
    expect((await rig.listen({ from: 'earliest' })).bodies).toEqual(['x'])
    await rig.declare({ groups: ['g', 'late'] })
    const refused = rig.listen({ group: 'late', from: 'earliest' })
    await expect(refused).rejects.toThrow(CapabilityError)
    await expect(refused).rejects.toThrow(/history: true/)
  })

  it('is refused for a topic or group that nobody declared', async () => {
    const rig = await Rig.open()
    await expect(rig.listen({ topics: ['t', 'nowhere'] })).rejects.toMatchObject({ code: 'topic' })
    await expect(rig.listen({ group: 'nobody' })).rejects.toMatchObject({
      code: 'group',
      message: expect.stringMatching(/"nobody" of topic "t"/) as string,
    })
  })

  it('is refused an ordering that is switched off', async () => {
    const rig = await Rig.open({ capabilities: { ordering: ['none'] } })
    await expect(rig.listen({ ordering: 'key' })).rejects.toThrow(/there is: none/)
  })

  it('pauses single sources only where the broker can', async () => {
    const rig = await Rig.open({ capabilities: { pause: 'all' } })
    const ear = await rig.listen()
    await rig.send([envelope('x')])
    const { source } = ear.deliveries[0] as Delivery
    expect(() => ear.receiver.pause([source])).toThrow(CapabilityError)
    ear.receiver.pause()
    await rig.send([envelope('y')])
    expect(ear.bodies).toEqual(['x'])
    ear.receiver.resume()
    await rig.clock.settle()
    expect(ear.bodies).toEqual(['x', 'y'])
  })

  it('keeps a paused source paused when everything is resumed', async () => {
    const rig = await Rig.open()
    const ear = await rig.listen()
    await rig.send([envelope('x')])
    const { source } = ear.deliveries[0] as Delivery
    ear.receiver.pause([source])
    ear.receiver.pause()
    ear.receiver.resume()
    await rig.send([envelope('y')])
    expect(ear.bodies).toEqual(['x'])
    ear.receiver.resume([source])
    await rig.clock.settle()
    expect(ear.bodies).toEqual(['x', 'y'])
  })

  it('gives up a delivery that it holds longer than the broker allows', async () => {
    const rig = await Rig.open({ capabilities: { hold: { maxMs: 1_000 } } })
    const ear = await rig.listen()
    await rig.send([envelope('x')])
    await rig.clock.advance(600)
    await rig.send([envelope('y')])
    ear.deliveries[0]?.ack()
    await rig.clock.advance(999)
    expect(ear.bodies).toEqual(['x', 'y'])
    await rig.clock.advance(1)
    expect(ear.bodies).toEqual(['x', 'y', 'y'])
    expect(ear.lostSources).toEqual([ear.deliveries[0]?.source])
    expect(ear.deliveries[2]?.source.epoch).toBe(2)
    ear.deliveries[2]?.ack()
    expect(rig.clock.timers).toBe(0)
  })

  it('holds no more than the broker allows, whatever it asked for', async () => {
    const rig = await Rig.open({ capabilities: { hold: { maxMessages: 3 } } })
    const ear = await rig.listen()
    await rig.send(envelopes(5))
    expect(ear.bodies).toEqual(['0', '1', '2'])
    ear.deliveries[1]?.ack()
    await rig.clock.settle()
    expect(ear.bodies).toEqual(['0', '1', '2', '3'])
  })
})

describe('progress of a source', () => {
  async function settledBehindHole(
    options: Parameters<typeof Rig.open>[0],
  ): Promise<readonly string[]> {
    const rig = await Rig.open(options)
    const ear = await rig.listen()
    await rig.send(envelopes(6))
    for (const index of [0, 2, 4, 5]) ear.deliveries[index]?.ack()
    await ear.receiver.close(0)
    return (await rig.listen()).bodies
  }

  it('is remembered in any order by a queue', async () => {
    expect(await settledBehindHole({})).toEqual(['1', '3'])
  })

  it('is one position in a log: what is settled behind a hole comes again', async () => {
    const progress = { outOfOrder: 'none' } as const
    expect(await settledBehindHole({ capabilities: { progress } })).toEqual([
      '1',
      '2',
      '3',
      '4',
      '5',
    ])
  })

  it('is remembered behind as many holes as can be written down', async () => {
    const progress = { outOfOrder: 'encoded', maxHoles: 1 } as const
    expect(await settledBehindHole({ capabilities: { progress } })).toEqual(['1', '3', '4', '5'])
  })

  it('keeps what a log was given back for the next owner', async () => {
    const progress = { outOfOrder: 'none' } as const
    const rig = await Rig.open({ capabilities: { progress } })
    const ear = await rig.listen({ maxHeld: { messages: 1, bytes: 1_000 } })
    await rig.send(envelopes(2))
    ear.deliveries[0]?.release()
    await rig.clock.settle()
    expect(ear.bodies).toEqual(['0', '1'])
    expect(await rig.broker.inspect.depth(group)).toBe(2)
    await ear.receiver.close(0)
    expect((await rig.listen()).bodies).toEqual(['0', '1'])
  })
})

describe('faults of receiving', () => {
  it('redeliver everything unsettled from the same source, and make earlier settles stale', async () => {
    const rig = await Rig.open()
    const ear = await rig.listen()
    await rig.send(envelopes(3))
    ear.deliveries[1]?.ack()
    expect(rig.broker.faults.redeliver({ topic: 't' })).toBe(1)
    await rig.clock.settle()
    expect(ear.bodies).toEqual(['0', '1', '2', '0', '2'])
    const [first, , , again] = ear.deliveries as [Delivery, Delivery, Delivery, Delivery]
    expect(again).toMatchObject({ redelivered: 'yes', attempt: 1 })
    expect(again.source).toBe(first.source)
    first.ack()
    expect(rig.events).toContainEqual({ type: 'settle.stale', source: 't.g', count: 1 })
    expect(await rig.broker.inspect.depth(group)).toBe(2)
    again.ack()
    expect(await rig.broker.inspect.depth(group)).toBe(1)
  })

  it('lose sources and keep them away until they are regained', async () => {
    const rig = await Rig.open()
    const ear = await rig.listen()
    await rig.send([envelope('x')])
    expect(rig.broker.faults.loseSources({ topic: 't', group: 'g', withhold: true })).toBe(1)
    await rig.send([envelope('y')])
    expect(ear.bodies).toEqual(['x'])
    expect(ear.lostSources).toHaveLength(1)
    rig.broker.faults.regain()
    await rig.clock.settle()
    expect(ear.bodies).toEqual(['x', 'x', 'y'])
    expect(ear.deliveries.map(({ source }) => source.epoch)).toEqual([1, 2, 2])
  })

  it('revoke sources in order: what is finished meanwhile stays finished', async () => {
    const rig = await Rig.open()
    const ear = await rig.listen()
    await rig.send(envelopes(2))
    let finish = (): void => undefined
    ear.onRevoking = () => new Promise((resolve) => (finish = resolve))
    const revoked = rig.broker.faults.revokeSources()
    await rig.send([envelope('2')])
    expect(ear.bodies).toEqual(['0', '1'])
    expect(ear.lostSources).toEqual([])
    ear.deliveries[0]?.ack()
    finish()
    expect(await revoked).toBe(1)
    await rig.clock.settle()
    expect(ear.bodies).toEqual(['0', '1', '1', '2'])
    expect(rig.clock.timers).toBe(0)
  })

  it('revoke sources from a holder that does not finish, at the deadline', async () => {
    const rig = await Rig.open({ rebalanceMs: 300 })
    const ear = await rig.listen()
    await rig.send([envelope('x')])
    ear.onRevoking = () => new Promise(() => undefined)
    const revoked = rig.broker.faults.revokeSources()
    await rig.clock.advance(299)
    expect(ear.lostSources).toEqual([])
    await rig.clock.advance(1)
    await revoked
    await rig.clock.settle()
    expect(ear.lostSources).toHaveLength(1)
    expect(ear.bodies).toEqual(['x', 'x'])
  })

  it('revoke from a holder whose revoking() rejects', async () => {
    const rig = await Rig.open()
    const ear = await rig.listen()
    ear.onRevoking = () => Promise.reject(new Error('no method throws'))
    expect(await rig.broker.faults.revokeSources()).toBe(1)
    expect(ear.lostSources).toHaveLength(1)
  })

  it('close ends every revocation that still waits', async () => {
    const rig = await Rig.open({ rebalanceMs: 60_000 })
    await rig.declare({ name: 'u' })
    const ear = await rig.listen({ topics: ['t', 'u'] })
    ear.onRevoking = () => new Promise(() => undefined)
    const revoked = rig.broker.faults.revokeSources()
    await rig.clock.settle()
    expect(rig.clock.timers).toBe(2)
    await rig.close()
    expect(await revoked).toBe(2)
    expect(rig.clock.timers).toBe(0)
  })

  it('miss settles: flush says so, and the messages come again', async () => {
    const rig = await Rig.open()
    const ear = await rig.listen()
    await rig.send(envelopes(3))
    rig.broker.faults.missSettles(2)
    for (const delivery of ear.deliveries) delivery.ack()
    await expect(ear.receiver.flush(1_000)).rejects.toMatchObject({
      code: 'settle',
      message: expect.stringMatching(/^2 settles/) as string,
    })
    await ear.receiver.flush(1_000)
    rig.broker.faults.loseSources()
    await rig.clock.settle()
    expect(ear.bodies).toEqual(['0', '1', '2', '0', '1'])
  })

  it('end the receivers of a deleted group, and only those', async () => {
    const rig = await Rig.open()
    await rig.declare({ groups: ['g', 'h'] })
    const ear = await rig.listen()
    const other = await rig.listen({ group: 'h' })
    await rig.send([envelope('x')])
    rig.broker.faults.deleteDestination('t', 'g')
    expect(ear.ends).toMatchObject([{ code: 'destination-gone', topic: 't' }])
    expect(other.ends).toEqual([])
    ear.deliveries[0]?.ack()
    await ear.receiver.close(0)
    expect(ear.ends).toHaveLength(1)
    await rig.send([envelope('y')])
    expect(other.bodies).toEqual(['x', 'y'])
    await rig.declare({ groups: ['g'] })
    expect((await rig.listen()).bodies).toEqual([])
  })

  it('delete a whole topic: publishing is refused, and it can be declared anew', async () => {
    const rig = await Rig.open()
    await rig.send([envelope('x')])
    rig.broker.faults.deleteDestination('t')
    expect(await rig.send([envelope('y')])).toEqual(['refused unroutable'])
    await rig.declare({})
    await rig.send([envelope('z')])
    expect((await rig.listen()).bodies).toEqual(['z'])
  })

  it('take everything away when the connection breaks, and give it back with new epochs', async () => {
    const rig = await Rig.open()
    const ear = await rig.listen()
    await rig.send([envelope('x')])
    ear.receiver.pause()
    rig.broker.faults.down()
    expect(ear.lostSources).toHaveLength(1)
    ear.deliveries[0]?.ack()
    rig.broker.faults.up()
    await rig.clock.settle()
    expect(ear.bodies).toEqual(['x'])
    ear.receiver.resume()
    await rig.clock.settle()
    expect(ear.bodies).toEqual(['x', 'x'])
    expect(ear.deliveries[1]?.source.epoch).toBe(2)
  })
})

describe('transactions of the memory broker', () => {
  const target = { kind: 'topic', topic: 'target' } as const

  async function holding(
    options: Parameters<typeof Rig.open>[0] = {},
  ): Promise<{ rig: Rig; ear: Ear }> {
    const rig = await Rig.open(options)
    await rig.declare({ name: 'target' })
    const ear = await rig.listen()
    await rig.send(envelopes(3))
    return { rig, ear }
  }

  it('settle and publish, or neither when one of the messages cannot be stored', async () => {
    const { rig, ear } = await holding()
    const result = ear.receiver.transact?.(
      [ear.deliveries[1]!],
      [envelope('a', { to: target }), envelope('b', { to: { ...target, topic: 'nowhere' } })],
      1_000,
    )
    expect(await rig.clock.run(result!)).toBe('aborted')
    expect(await rig.broker.inspect.depth(target)).toBe(0)
    expect(await rig.broker.inspect.depth(group)).toBe(3)
    const again = ear.receiver.transact?.(
      [ear.deliveries[1]!],
      [envelope('a', { to: target })],
      1_000,
    )
    expect(await rig.clock.run(again!)).toBe('committed')
    expect(await rig.broker.inspect.depth(target)).toBe(1)
    expect(await rig.broker.inspect.depth(group)).toBe(2)
  })

  it('abort when a delivery is not held any more', async () => {
    const { rig, ear } = await holding()
    rig.broker.faults.loseSources()
    const result = ear.receiver.transact?.(
      [ear.deliveries[0]!],
      [envelope('a', { to: target })],
      1_000,
    )
    expect(await rig.clock.run(result!)).toBe('aborted')
    expect(await rig.broker.inspect.depth(target)).toBe(0)
  })

  it('take a prefix only where the broker takes no more', async () => {
    const { rig, ear } = await holding({ capabilities: { atomicPublish: 'prefix' } })
    const [first, second, third] = ear.deliveries as [Delivery, Delivery, Delivery]
    await expect(ear.receiver.transact?.([second], [], 1_000)).rejects.toThrow(/prefix/)
    await expect(ear.receiver.transact?.([first, third], [], 1_000)).rejects.toThrow(/prefix/)
    expect(await rig.clock.run(ear.receiver.transact!([first, second], [], 1_000))).toBe(
      'committed',
    )
    expect(await rig.broker.inspect.depth(group)).toBe(1)
  })

  it.each([
    ['aborted', 'aborted', 0],
    ['unknown-committed', 'unknown', 1],
    ['unknown-aborted', 'unknown', 0],
  ] as const)('can be made to end %s', async (how, told, stored) => {
    const { rig, ear } = await holding()
    rig.broker.faults.failTransact(how)
    const result = ear.receiver.transact!(
      [ear.deliveries[0]!],
      [envelope('a', { to: target })],
      1_000,
    )
    expect(await rig.clock.run(result)).toBe(told)
    expect(await rig.broker.inspect.depth(target)).toBe(stored)
    expect(await rig.broker.inspect.depth(group)).toBe(3 - stored)
  })
})
