import { describe, expect, it } from 'vitest'

import { memory, type MemoryBrokerOptions } from '../../../adapters/memory/index.ts'
import { ClosedError, OptionError } from '../../../src/contract/errors.ts'
import { topic } from '../../../src/contract/topic.ts'
import { bodyOf, envelope, envelopes, Rig } from './rig.ts'

const dead = { kind: 'dead', topic: 't', group: 'g' } as const

describe('published()', () => {
  it('shows what was published, decoded by its topic', async () => {
    const rig = await Rig.open()
    const headers = [['a', '1']] as const
    await rig.send([envelope('{"n":1}', { key: 'k', headers })])
    await rig.send([envelope('{"n":9}', { to: dead })])
    const [message, ...rest] = rig.broker.published(topic<{ n: number }>('t'))
    expect(rest).toEqual([])
    expect(message?.payload.n).toBe(1)
    expect(message).toMatchObject({ key: 'k', headers, id: message?.envelope.id })
    expect(rig.broker.published('t')[0]?.payload).toEqual({ n: 1 })
    expect(rig.broker.published('nothing was ever sent there')).toEqual([])
  })

  it('shows tombstones as null and leaves a wrong body to whoever reads it', async () => {
    const rig = await Rig.open()
    await rig.send([envelope(null), envelope('not JSON')])
    const [tombstone, wrong] = rig.broker.published('t')
    expect(tombstone?.payload).toBeNull()
    expect(() => wrong?.payload).toThrow(/not JSON/)
  })

  it('says so when more were published than it keeps', async () => {
    const rig = await Rig.open({ keepPublished: 2 })
    await rig.send(envelopes(2))
    expect(rig.broker.published('t')).toHaveLength(2)
    await rig.send(envelopes(1))
    expect(() => rig.broker.published('t')).toThrow(/3 messages .* keepPublished is 2/)
  })

  it('does not show what was refused', async () => {
    const rig = await Rig.open({ maxBodyBytes: 1 })
    await rig.send([envelope('xx'), envelope('x')])
    expect(rig.broker.published('t').map((one) => bodyOf(one.envelope))).toEqual(['x'])
  })
})

describe('deliver()', () => {
  it('is the only way with manual delivery', async () => {
    const rig = await Rig.open({ delivery: 'manual' })
    const ear = await rig.listen({ maxHeld: { messages: 2, bytes: 1_000 } })
    await rig.send(envelopes(3))
    expect(ear.bodies).toEqual([])
    expect(rig.broker.deliver()).toBe(2)
    expect(rig.broker.deliver()).toBe(0)
    ear.deliveries[0]?.ack()
    expect(rig.broker.deliver()).toBe(1)
    expect(ear.bodies).toEqual(['0', '1', '2'])
  })

  it('hands over at once what would come in the next turn', async () => {
    const rig = await Rig.open()
    const ear = await rig.listen()
    rig.start(envelopes(2))
    expect(rig.broker.deliver()).toBe(2)
    await rig.clock.settle()
    expect(ear.bodies).toEqual(['0', '1'])
  })
})

describe('settled()', () => {
  it('waits for confirms, deliveries, retries and scheduled messages', async () => {
    const rig = await Rig.open()
    const ear = await rig.listen()
    const done: string[] = []
    const wait = async (): Promise<void> => {
      await rig.broker.settled()
      done.push('settled')
    }
    rig.start([envelope('now'), envelope('later', { deliverAtMs: rig.clock.wallMs() + 50 })])
    const waiting = wait()
    await rig.clock.settle()
    ear.deliveries[0]?.retry?.(100)
    await rig.clock.advance(50)
    ear.deliveries[1]?.ack()
    await rig.clock.advance(50)
    expect(ear.bodies).toEqual(['now', 'later', 'now'])
    expect(done).toEqual([])
    ear.deliveries[2]?.ack()
    await rig.clock.settle()
    await waiting
    expect(rig.clock.timers).toBe(0)
  })

  it('is there at once when nothing is under way, dead letters aside', async () => {
    const rig = await Rig.open()
    await rig.send([envelope('x', { to: dead })])
    await expect(rig.clock.run(rig.broker.settled())).resolves.toBeUndefined()
    expect(rig.clock.now()).toBe(0)
  })

  it('says what is left when that takes too long', async () => {
    const rig = await Rig.open()
    await rig.declare({ groups: ['g', 'nobody'] })
    const ear = await rig.listen()
    await rig.send(envelopes(2))
    ear.deliveries[0]?.ack()
    rig.broker.faults.stall('t')
    rig.start([envelope('x')])
    const waiting = rig.clock.run(rig.broker.settled({ deadlineMs: 200 }))
    await expect(waiting).rejects.toMatchObject({
      code: 'timeout',
      message:
        'not settled within 200 ms: 1 sent and not confirmed; 2 in t.g; 3 in t.nobody, and nobody receives there',
    })
  })

  it('ends with an error when the broker is closed, and refuses nonsense', async () => {
    const rig = await Rig.open()
    await rig.send([envelope('x')])
    const waiting = rig.broker.settled()
    waiting.catch(() => undefined)
    await rig.close()
    await expect(waiting).rejects.toThrow(ClosedError)
    await rig.open()
    await expect(rig.broker.settled({ deadlineMs: -1 })).rejects.toThrow(OptionError)
  })
})

describe('dead()', () => {
  it('shows the dead letters of a group as they were sent', async () => {
    const rig = await Rig.open({ capabilities: { headers: { duplicate: false } } })
    const headers = [
      ['a', '1'],
      ['a', '2'],
    ] as const
    await rig.send([envelope('x', { to: dead, headers })])
    const letters = rig.broker.dead('t', 'g')
    expect(letters.map(bodyOf)).toEqual(['x'])
    expect(letters[0]?.headers).toEqual(headers)
    expect(() => rig.broker.dead('t', 'nobody')).toThrow(/"nobody" of topic "t"/)
  })
})

describe('headers where they have limits', () => {
  it('are stored as plain as they can be, and come back as they were sent', async () => {
    const able = { duplicate: false, binary: false, null: false }
    const rig = await Rig.open({ capabilities: { headers: able } })
    const bytes = Uint8Array.from([0, 255])
    const hostile = [
      ['a', '1'],
      ['b', bytes],
      ['a', '2'],
      ['n', null],
    ] as const
    const plain = [['a', '1']] as const
    await rig.send([envelope('x', { headers: hostile }), envelope('y', { headers: plain })])
    const ear = await rig.listen()
    expect(ear.deliveries[0]?.envelope.headers).toEqual(
      hostile.map(([name, value]) => [name, value === bytes ? Buffer.from(bytes) : value]),
    )
    expect(ear.deliveries[1]?.envelope.headers).toBe(plain)
    const [seen] = await rig.broker.inspect.browse(
      { kind: 'group', topic: 't', group: 'g', delayMs: 0 },
      1,
    )
    expect(seen?.headers).toHaveLength(4)
  })
})

describe('what is switched off', () => {
  it('refuses tombstones and messages for later, and takes those that are due', async () => {
    const rig = await Rig.open({ capabilities: { tombstones: false, scheduledSend: null } })
    const soon = rig.clock.wallMs() + 1
    const words = await rig.send([
      envelope(null),
      envelope('later', { deliverAtMs: soon }),
      envelope('due', { deliverAtMs: soon - 1 }),
    ])
    expect(words).toEqual(['refused capability', 'refused capability', 'confirmed'])
  })

  it('schedules no further than it can', async () => {
    const rig = await Rig.open({ capabilities: { scheduledSend: { maxDelayMs: 1_000 } } })
    const now = rig.clock.wallMs()
    const words = await rig.send([
      envelope('a', { deliverAtMs: now + 1_000 }),
      envelope('b', { deliverAtMs: now + 1_001 }),
    ])
    expect(words).toEqual(['confirmed', 'refused capability'])
  })

  it('has no delays but the lane with retryDelay none', async () => {
    const rig = await Rig.open({ capabilities: { retryDelay: 'none' } })
    const to = { kind: 'group', topic: 't', group: 'g', delayMs: 0 } as const
    const words = await rig.send([
      envelope('a', { to }),
      envelope('b', { to: { ...to, delayMs: 5 } }),
    ])
    expect(words).toEqual(['confirmed', 'refused unroutable'])
  })

  it('counts no attempts with attemptCount none', async () => {
    const rig = await Rig.open({ capabilities: { attemptCount: 'none' } })
    const ear = await rig.listen()
    await rig.send([envelope('x')])
    ear.deliveries[0]?.retry?.(0)
    await rig.clock.settle()
    expect(ear.deliveries.map(({ attempt }) => attempt)).toEqual([1, 1])
  })
})

describe('provisioning', () => {
  it('finds what differs and changes nothing that exists', async () => {
    const rig = await Rig.open()
    const declared = {
      name: 't',
      groups: ['g', 'h'],
      partitions: 3,
      ordering: 'none',
      retryLevelsMs: [5],
    } as const
    const verified = await rig.broker.provision({ topics: [declared] }, 'verify')
    expect(verified.map(({ code }) => code)).toEqual([
      'memory.partitions',
      'memory.level-missing',
      'memory.group-missing',
    ])
    const created = await rig.broker.provision({ topics: [declared] }, 'create')
    expect(created).toMatchObject([{ code: 'memory.partitions', declared: '3', found: 'none' }])
    await expect(rig.declare({ name: 'with space' })).rejects.toMatchObject({ code: 'topic' })
    await expect(rig.declare({ groups: ['dead'] })).rejects.toMatchObject({ code: 'group' })
    await expect(rig.declare({ name: 'p', partitions: 0 })).rejects.toThrow(
      /partitions of topic "p"/,
    )
    await expect(rig.declare({ retryLevelsMs: [0] })).rejects.toThrow(/retryLevelsMs of topic "t"/)
  })

  it('tells in the audit that nothing survives the process', async () => {
    const rig = await Rig.open()
    const findings = await rig.broker.audit({ topics: [] })
    expect(findings).toMatchObject([{ severity: 'warning', code: 'memory.volatile' }])
  })
})

describe('options of memory()', () => {
  const wrong: readonly (readonly [MemoryBrokerOptions, RegExp])[] = [
    [{ maxDepth: 0 }, /maxDepth: got 0; allowed: a whole number, 1 or more/],
    [{ maxBodyBytes: { t: 0.5 } }, /maxBodyBytes\.t: got 0\.5/],
    [{ keepPublished: -1 }, /keepPublished/],
    [{ history: 'yes' as never }, /history: got "yes"/],
    [{ delivery: 'never' as never }, /delivery: got "never"; allowed: 'auto', 'manual'/],
    [{ rebalance: 5 } as never, /memory\.rebalance/],
    [{ capabilities: { retryDelay: 'maybe' as never } }, /capabilities\.retryDelay: got "maybe"/],
    [{ capabilities: { reply: true } as never }, /capabilities\.reply/],
    [{ capabilities: { tombstones: 1 as never } }, /capabilities\.tombstones/],
    [{ capabilities: { hold: { maxMs: 0 } } }, /capabilities\.hold\.maxMs/],
    [{ capabilities: { headers: { utf8: true } as never } }, /capabilities\.headers\.utf8/],
    [{ capabilities: { ordering: ['some' as never] } }, /capabilities\.ordering/],
    [{ capabilities: { scheduledSend: { maxDelayMs: -1 } } }, /scheduledSend\.maxDelayMs/],
    [{ sameAs: {} as never }, /sameAs: got an object; allowed: a broker made by memory\(\)/],
    [{ sameAs: memory(), maxDepth: 5 } as never, /memory\(\{ sameAs \}\)\.maxDepth/],
  ]

  it.each(wrong)('refuses %j', (options, text) => {
    expect(() => memory(options)).toThrow(OptionError)
    expect(() => memory(options)).toThrow(text)
  })
})
