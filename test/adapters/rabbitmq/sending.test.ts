import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { UnroutableError } from '../../../src/contract/errors.ts'
import type { Destination, Envelope } from '../../../src/contract/message.ts'
import { FaultProxy } from '../../brokers/proxy/fault-proxy.ts'
import { sharedNode } from '../../brokers/shared-node.ts'
import { envelope, envelopes, inWords, SendingStage, type Sending } from './sending-stage.ts'

let stage: SendingStage
let proxy: FaultProxy

beforeAll(async () => {
  stage = await SendingStage.on(sharedNode())
  const { amqpPort } = stage.node.address
  proxy = await FaultProxy.start({ target: () => ({ host: '127.0.0.1', port: amqpPort }) })
})

afterAll(async () => {
  await proxy.close()
  await stage.end()
})

const byProxy = (): { port: number } => ({ port: proxy.port })

async function outcomeOf(sending: Sending, message: Envelope, withinMs?: number): Promise<string> {
  stage.send(sending, [message], withinMs)
  await stage.settled(sending)
  return inWords(sending.reports.outcomes.get(message.id!))
}

describe('a healthy broker', () => {
  it('confirms a burst, and everything is in the queue once', async () => {
    const topic = await stage.topic()
    const sending = stage.sending()
    const batch = envelopes(topic, 5_000)
    for (let from = 0; from < batch.length; from += 250) {
      stage.send(sending, batch.slice(from, from + 250))
    }
    await stage.settled(sending)
    expect(sending.reports.summary).toEqual({ confirmed: 5_000 })
    const stored = await stage.drain(stage.queue(topic))
    expect([stored.length, new Set(stored).size]).toEqual([5_000, 5_000])
  })

  it('keeps the order of small and large messages of one burst', async () => {
    const topic = await stage.topic()
    const sending = stage.sending()
    const batch = envelopes(topic, 300).map((one, n) =>
      n % 7 === 3 ? { ...one, body: Buffer.alloc(20_000 * (1 + (n % 10)), n) } : one,
    )
    stage.send(sending, batch)
    await stage.settled(sending)
    expect(sending.reports.summary).toEqual({ confirmed: 300 })
    expect(await stage.drain(stage.queue(topic))).toEqual(batch.map(({ id }) => id))
  })

  it('reports nothing from inside send, not even what is refused at once', async () => {
    const topic = await stage.topic()
    const sending = stage.sending({ options: { maxBodyBytes: 8 } })
    stage.send(sending, [envelope(topic, 'warm', { body: Buffer.from('x') })])
    await stage.settled(sending)
    stage.send(sending, [
      envelope(topic, 'large'),
      envelope(topic, 'small', { body: Buffer.from('x') }),
    ])
    expect(sending.reports.outcomes.size).toBe(1)
    await stage.settled(sending)
    expect(inWords(sending.reports.outcomes.get('large'))).toBe('refused too-large')
    expect(inWords(sending.reports.outcomes.get('small'))).toBe('confirmed')
  })
})

describe('a queue that is full', () => {
  const alone = { kind: 'group', group: 'a', delayMs: 0 } as const

  /** How so many more end than the queue takes, sent on ways that are told apart by their id. */
  async function overflowing(
    topic: string,
    ways: Readonly<Record<string, Destination>>,
  ): Promise<Sending> {
    const sending = stage.sending()
    const names = Object.keys(ways)
    const failed = (): number => sending.reports.sent - sending.reports.ids('confirmed').length
    // A quorum queue takes what is on its way before it rejects.
    for (let burst = 0; failed() < 20 && burst < 40; burst++) {
      const batch = names.map((name) => envelope(topic, `${name} ${burst}`, { to: ways[name]! }))
      stage.send(sending, batch)
      await stage.settled(sending)
    }
    return sending
  }

  it('refuses what can only have gone to it when it is a quorum queue of ours', async () => {
    const topic = await stage.topic({ arguments: { 'x-max-length': 5 } })
    stage.topics.keep(topic).quorum.add(stage.queue(topic))
    const sending = await overflowing(topic, {
      alone: { ...alone, topic },
      fanned: { kind: 'topic', topic },
    })
    const words = new Set(
      [...sending.reports.outcomes].map(([id, one]) => `${id.split(' ')[0]} ${inWords(one)}`),
    )
    expect([...words].toSorted()).toEqual([
      'alone confirmed',
      'alone refused nacked',
      'fanned confirmed',
      'fanned unknown nacked',
    ])
    const stored = new Set(await stage.drain(stage.queue(topic)))
    expect(sending.reports.ids('refused').filter((id) => stored.has(id))).toEqual([])
    const [refused] = [...sending.reports.outcomes.values()].filter(
      ({ status }) => status === 'refused',
    )
    expect(refused).toMatchObject({ error: { retryable: true } })
  })

  it('leaves it unknown on a queue of which nobody knows the type', async () => {
    const topic = await stage.topic({ arguments: { 'x-max-length': 5 } })
    const sending = await overflowing(topic, { alone: { ...alone, topic } })
    expect(Object.keys(sending.reports.summary).toSorted()).toEqual(['confirmed', 'unknown nacked'])
    await stage.drain(stage.queue(topic))
  })
})

describe('messages that reach no queue', () => {
  it('are refused as unroutable, interleaved 1:10 with others', async () => {
    const topic = await stage.topic()
    const lonely = `${topic}-lonely`
    await stage.operate((channel) => channel.assertExchange(lonely, 'topic', { durable: true }))
    const sending = stage.sending()
    const batch = envelopes(topic, 1_000).map((one, n) =>
      n % 10 === 0 ? envelope(lonely, one.id!) : one,
    )
    stage.send(sending, batch)
    await stage.settled(sending)
    expect(sending.reports.summary).toEqual({ confirmed: 900, 'refused unroutable': 100 })
    const refused = sending.reports.outcomes.get('m-0')
    const error = refused?.status === 'refused' ? refused.error : null
    expect(error).toBeInstanceOf(UnroutableError)
    expect(error?.message).toContain(`no queue is bound to exchange "${lonely}"`)
    expect((await stage.drain(stage.queue(topic))).length).toBe(900)
  })

  it('are told apart without an id', async () => {
    const topic = await stage.topic()
    const lonely = `${topic}-lonely`
    await stage.operate((channel) => channel.assertExchange(lonely, 'topic', { durable: true }))
    const { sender } = stage.sending()
    const outcomes: string[] = []
    const batch = [topic, lonely, topic, lonely].map((to) => ({ ...envelope(to, ''), id: null }))
    sender.send(batch, stage.deadline(), (from, to, outcome) => {
      for (let index = from; index < to; index++) outcomes[index] = inWords(outcome)
    })
    await stage.eventually(
      () => outcomes.join(),
      () => outcomes.filter(Boolean).length === 4,
    )
    expect(outcomes).toEqual(['confirmed', 'refused unroutable', 'confirmed', 'refused unroutable'])
  })

  it('are never confirmed when another of the same id goes to the same place', async () => {
    const topic = await stage.topic()
    const lonely = `${topic}-lonely`
    await stage.operate((channel) => channel.assertExchange(lonely, 'topic', { durable: true }))
    const { sender } = stage.sending()
    const words: string[] = []
    const batch = [envelope(lonely, 'same'), envelope(lonely, 'same'), envelope(topic, 'other')]
    sender.send(batch, stage.deadline(), (from, to, outcome) => {
      for (let index = from; index < to; index++) words[index] = inWords(outcome)
    })
    await stage.eventually(
      () => words.join(),
      () => words.filter(Boolean).length === 3,
    )
    // The second comes back alone when the first was answered by then.
    expect(words[0]).toMatch(/unknown unanswered|refused unroutable/)
    expect(words[1]).toMatch(/unknown unanswered|refused unroutable/)
    expect(words[2]).toBe('confirmed')
  })

  it('are told from others with their id that go elsewhere', async () => {
    const topic = await stage.topic()
    const { sender } = stage.sending()
    const words: string[] = []
    const nobody = { kind: 'dead', topic, group: 'nobody' } as const
    const batch = [envelope(topic, 'same'), envelope(topic, 'same', { to: nobody })]
    sender.send(batch, stage.deadline(), (from, to, outcome) => {
      for (let index = from; index < to; index++) words[index] = inWords(outcome)
    })
    await stage.eventually(
      () => words.join(),
      () => words.filter(Boolean).length === 2,
    )
    expect(words).toEqual(['confirmed', 'refused unroutable'])
  })

  it('are refused also when the way to their topic became another one meanwhile', async () => {
    const lonely = `${await stage.topic()}-lonely`
    await stage.operate((channel) => channel.assertExchange(lonely, 'topic', { durable: true }))
    const sending = stage.sending()
    expect(await outcomeOf(sending, envelope(lonely, 'warm'))).toBe('refused unroutable')
    stage.send(sending, [envelope(lonely, 'keyed', { key: Buffer.from('k') })])
    stage.topics.keep(lonely).settle(3)
    await stage.settled(sending)
    expect(inWords(sending.reports.outcomes.get('keyed'))).toBe('refused unroutable')
  })

  it('say so for a queue that is missing, on the way to one group', async () => {
    const topic = await stage.topic()
    const sending = stage.sending()
    const to = { kind: 'group', topic, group: 'nobody', delayMs: 0 } as const
    expect(await outcomeOf(sending, envelope(topic, 'x', { to }))).toBe('refused unroutable')
  })
})

describe('a queue that rejects', () => {
  it('makes the outcome unknown with code nacked; drained, it confirms', async () => {
    const topic = await stage.topic({ arguments: { 'x-max-length': 1 } })
    const sending = stage.sending()
    // A quorum queue takes what is on its way before it rejects.
    for (let burst = 0; sending.reports.ids('unknown').length === 0 && burst < 20; burst++) {
      stage.send(sending, envelopes(topic, 10, burst * 10))
      await stage.settled(sending)
    }
    expect(sending.reports.summary['unknown nacked']).toBeGreaterThan(0)
    const stored = new Set(await stage.drain(stage.queue(topic)))
    for (const id of sending.reports.ids('confirmed')) expect(stored).toContain(id)
    await stage.eventually(
      () => 'still rejecting',
      async () =>
        (await outcomeOf(sending, envelope(topic, `again-${Math.random()}`))) === 'confirmed',
    )
  })
})

describe('a message that kills its channel', () => {
  it('is refused alone: all others of the burst are confirmed', async () => {
    const topic = await stage.topic()
    const sending = stage.sending()
    const batch = envelopes(topic, 500)
    batch[250] = envelope('no-such-exchange', 'm-250')
    stage.send(sending, batch)
    await stage.settled(sending)
    const { confirmed = 0, 'confirmed, perhaps twice': twice = 0 } = sending.reports.summary
    expect(inWords(sending.reports.outcomes.get('m-250'))).toBe('refused unroutable')
    expect(confirmed + twice).toBe(499)
    const stored = await stage.drain(stage.queue(topic))
    const unmarked = batch.filter(
      ({ id }) => inWords(sending.reports.outcomes.get(id!)) === 'confirmed',
    )
    expect(new Set(stored).size).toBe(499)
    for (const { id } of unmarked) expect(stored.filter((one) => one === id)).toHaveLength(1)
    expect(sending.wires.length).toBeLessThanOrEqual(3)
  })

  it('is found by its size too, and the others of several poisons are confirmed', async () => {
    const topic = await stage.topic()
    const sending = stage.sending({ options: { maxBodyBytes: 64 * 1024 * 1024 } })
    const large = Buffer.alloc(17 * 1024 * 1024)
    const batch = envelopes(topic, 100)
    batch[20] = envelope(topic, 'm-20', { body: large })
    batch[60] = envelope('no-such-exchange', 'm-60')
    batch[61] = envelope('no-such-exchange', 'm-61')
    stage.send(sending, batch, 60_000)
    await stage.settled(sending, 60_000)
    const words = (id: string): string => inWords(sending.reports.outcomes.get(id))
    expect([words('m-20'), words('m-60'), words('m-61')]).toEqual([
      'refused too-large',
      'refused unroutable',
      'refused unroutable',
    ])
    expect(sending.reports.ids('confirmed')).toHaveLength(97)
    expect(new Set(await stage.drain(stage.queue(topic))).size).toBe(97)
  })

  it('is refused at once when it is alone', async () => {
    const sending = stage.sending()
    expect(await outcomeOf(sending, envelope('no-such-exchange', 'x'))).toBe('refused unroutable')
    expect(sending.wires.filter((purpose) => purpose.includes('quarantine'))).toEqual([])
  })

  it('is found once for all that go to the same missing exchange', async () => {
    const topic = await stage.topic()
    const sending = stage.sending()
    // More than fit the window, so that some of them still wait when the channel is killed.
    const batch = envelopes(topic, 4_000).map((one, n) =>
      n % 2 === 0 ? envelope('no-such-exchange', one.id!) : one,
    )
    stage.send(sending, batch)
    await stage.settled(sending)
    expect(sending.reports.summary['refused unroutable']).toBe(2_000)
    expect(sending.reports.ids('confirmed')).toHaveLength(2_000)
    expect(sending.wires.length).toBeLessThanOrEqual(3)
  })

  it('is not called refused when it may have been stored before its exchange went', async () => {
    const topic = await stage.topic()
    const sending = stage.sending(byProxy())
    const held = proxy.rule('basic.publish', { do: 'hold-confirm' }, 20)
    stage.send(sending, envelopes(topic, 20))
    await stage.eventually(
      () => `${held.fired} confirms are held`,
      () => held.fired === 20,
    )
    await stage.eventually(
      () => 'not stored',
      async () =>
        (await stage.operate((channel) => channel.checkQueue(stage.queue(topic)))).messageCount ===
        20,
    )
    stage.send(sending, envelopes(topic, 1, 100))
    await stage.eventually(
      () => 'not confirmed',
      () => sending.reports.outcomes.has('m-100'),
    )
    await stage.operate((channel) => channel.deleteExchange(topic))
    stage.send(sending, envelopes(topic, 20, 200))
    await stage.settled(sending)
    const stored = await stage.drain(stage.queue(topic))
    expect(stored.length).toBeGreaterThanOrEqual(21)
    const refused = new Set(sending.reports.ids('refused'))
    expect(stored.filter((id) => refused.has(id))).toEqual([])
    held.heal()
  })

  /** Twenty that are stored, whose confirms do not come. */
  async function storedUnconfirmed(
    sending: Sending,
    topic: string,
    first: number = 0,
  ): Promise<() => void> {
    const held = proxy.rule('basic.publish', { do: 'hold-confirm' }, 20)
    stage.send(sending, envelopes(topic, 20, first))
    await stage.eventually(
      () => `${held.fired} confirms are held`,
      () => held.fired === 20,
    )
    await stage.eventually(
      () => 'not stored',
      async () =>
        (await stage.operate((one) => one.checkQueue(stage.queue(topic)))).messageCount >= 20,
    )
    return () => held.heal()
  }

  async function expectNoneRefusedThatIsStored(sending: Sending, topic: string): Promise<void> {
    const stored = await stage.drain(stage.queue(topic))
    expect(stored.length).toBeGreaterThanOrEqual(20)
    const refused = new Set(sending.reports.ids('refused'))
    expect(stored.filter((id) => refused.has(id))).toEqual([])
  }

  it('does not make those refused that found a queue before, and find none when they are written again', async () => {
    const topic = await stage.topic()
    const sending = stage.sending(byProxy())
    const heal = await storedUnconfirmed(sending, topic)
    await stage.operate((channel) => channel.unbindQueue(stage.queue(topic), topic, '#'))
    stage.send(sending, [envelope('no-such-exchange', 'm-poison')])
    await stage.settled(sending)
    await expectNoneRefusedThatIsStored(sending, topic)
    expect(sending.reports.summary['unknown unanswered']).toBe(20)
    heal()
  })

  it('does not make those refused that were allowed before, and are not when they are written again', async () => {
    const topic = await stage.topic()
    const sending = stage.sending(byProxy())
    const heal = await storedUnconfirmed(sending, topic)
    const { ctl, name } = { ctl: stage.node.ctl.bind(stage.node), name: stage.vhost.name }
    await ctl('set_topic_permissions', '-p', name, 'guest', topic, 'nothing', '.*')
    stage.send(sending, [envelope('no-such-exchange', 'm-poison')])
    await stage.settled(sending)
    await ctl('clear_topic_permissions', '-p', name, 'guest', topic)
    await expectNoneRefusedThatIsStored(sending, topic)
    expect(sending.reports.summary['refused unroutable']).toBe(1)
    heal()
  })

  it('remembers exchanges of channels it has left', async () => {
    const topic = await stage.topic()
    const sending = stage.sending({ ...byProxy(), options: { confirmTimeoutMs: 3_000 } })
    stage.send(sending, envelopes(topic, 1, 100))
    await stage.settled(sending)
    const late = proxy.rule('basic.publish', { do: 'hold-confirm' }, 1)
    stage.send(sending, envelopes(topic, 1, 101))
    await stage.settled(sending)
    late.heal()
    const heal = await storedUnconfirmed(sending, topic)
    await stage.operate((channel) => channel.deleteExchange(topic))
    stage.send(sending, envelopes(topic, 5, 200))
    await stage.settled(sending)
    await expectNoneRefusedThatIsStored(sending, topic)
    heal()
  })

  it('ends with the rest unknown when there are too many of them', async () => {
    const sending = stage.sending()
    const batch = Array.from({ length: 40 }, (_, n) => envelope(`missing-${n}`, `m-${n}`))
    stage.send(sending, batch, 60_000)
    await stage.settled(sending, 60_000)
    expect(sending.reports.summary['refused unroutable']).toBeGreaterThanOrEqual(16)
    expect(sending.reports.summary['confirmed'] ?? 0).toBe(0)
    expect(sending.wires.length).toBeLessThan(30)
  })
})

describe('what came from the broker', () => {
  it('may go to its dead letters, however large it is', async () => {
    const topic = await stage.topic()
    const dead = `${topic}.a.dead`
    const made = { durable: true, arguments: { 'x-queue-type': 'quorum' } }
    await stage.operate((channel) => channel.assertQueue(dead, made))
    const sending = stage.sending({ options: { maxBodyBytes: 8 } })
    const body = Buffer.alloc(64)
    expect(await outcomeOf(sending, envelope(topic, 'own', { body }))).toBe('refused too-large')
    const to: Destination = { kind: 'dead', topic, group: 'a' }
    expect(await outcomeOf(sending, envelope(topic, 'copy', { body, to }))).toBe('confirmed')
    expect(await stage.drain(dead)).toEqual(['copy'])
  })
})

describe('headers that do not fit', () => {
  it('are refused before anything is written, and the others are confirmed', async () => {
    const topic = await stage.topic()
    const sending = stage.sending()
    const batch = envelopes(topic, 11)
    batch[5] = envelope(topic, 'm-5', { headers: [['huge', 'x'.repeat(70_000)]] })
    stage.send(sending, batch)
    await stage.settled(sending)
    expect(inWords(sending.reports.outcomes.get('m-5'))).toBe('refused too-large')
    expect(sending.reports.summary['confirmed']).toBe(10)
    expect(sending.wires).toEqual(['publish'])
  })
})

describe('a broker that cannot be reached', () => {
  it('refuses what was never written at its deadline', async () => {
    const topic = await stage.topic()
    const refusing = proxy.refuse()
    const sending = stage.sending(byProxy())
    expect(await outcomeOf(sending, envelope(topic, 'x'), 400)).toBe('refused not-sent')
    refusing.heal()
    expect(await outcomeOf(sending, envelope(topic, 'y'))).toBe('confirmed')
    expect(await stage.drain(stage.queue(topic))).toEqual(['y'])
  })
})

describe('a broker that stays away', () => {
  it('costs no memory for what ended meanwhile', async () => {
    const topic = await stage.topic()
    const refusing = proxy.refuse()
    const sending = stage.sending(byProxy())
    const before = process.memoryUsage().arrayBuffers
    for (let n = 0; n < 3_000; n++) {
      const body = Buffer.alloc(100_000, n)
      stage.send(sending, [envelope(topic, `m-${n}`, { body })], 5)
      if (n % 100 === 99) await stage.settled(sending)
    }
    expect(sending.reports.summary).toEqual({ 'refused not-sent': 3_000 })
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    collect()
    // 300 MB were handed over.
    const kept = process.memoryUsage().arrayBuffers - before
    refusing.heal()
    await sending.sender.close(stage.deadline())
    expect(kept).toBeLessThan(60_000_000)
  })
})

describe('a confirm that never comes', () => {
  it('ends unknown at the deadline, whatever comes later', async () => {
    const topic = await stage.topic()
    const held = proxy.rule('basic.publish', { do: 'hold-confirm' })
    const sending = stage.sending(byProxy())
    expect(await outcomeOf(sending, envelope(topic, 'x'), 500)).toBe('unknown timeout')
    held.heal()
    await stage.eventually(
      () => 'the late confirm was not told',
      () => sending.events.some(({ type }) => type === 'publish.late'),
    )
    expect(held.fired).toBe(1)
  })

  it('ends unknown after confirmTimeoutMs; nothing new waits behind it', async () => {
    const topic = await stage.topic()
    const others = proxy.links.length
    const lost = proxy.rule('basic.publish', { do: 'lose-confirm' }, 1)
    const sending = stage.sending({ ...byProxy(), options: { confirmTimeoutMs: 500 } })
    expect(await outcomeOf(sending, envelope(topic, 'x'))).toBe('unknown unanswered')
    expect(lost.fired).toBe(1)
    expect(await outcomeOf(sending, envelope(topic, 'y'))).toBe('confirmed')
    await stage.eventually(
      () => `${proxy.links.length} connections are open`,
      () => proxy.links.length === others + 1,
    )
    expect(sending.wires).toEqual(['publish', 'publish'])
    lost.heal()
  })
})

describe('a blocking broker', () => {
  it('is not written to: what waits is refused at its deadline, what was written is confirmed after', async () => {
    const topic = await stage.topic()
    const sending = stage.sending({ ...byProxy(), options: { confirmTimeoutMs: 300 } })
    expect(await outcomeOf(sending, envelope(topic, 'first'))).toBe('confirmed')
    const alarm = proxy.blockPublishers()
    const held = proxy.rule('basic.publish', { do: 'hold-confirm' })
    stage.send(sending, [envelope(topic, 'written')])
    await stage.eventually(
      () => sending.health.join(),
      () => sending.health.some((word) => word.startsWith('blocked')),
    )
    stage.send(sending, [envelope(topic, 'waiting')], 1_000)
    stage.send(sending, [envelope(topic, 'patient')])
    await stage.eventually(
      () => JSON.stringify(sending.reports.summary),
      () => sending.reports.outcomes.has('waiting'),
    )
    expect(inWords(sending.reports.outcomes.get('waiting'))).toBe('refused not-sent')
    // Blocked for longer than confirmTimeoutMs, and still not given up.
    expect(sending.reports.outcomes.has('patient')).toBe(false)
    held.heal()
    alarm.heal()
    await stage.settled(sending)
    expect(inWords(sending.reports.outcomes.get('patient'))).toBe('confirmed')
    const stored = await stage.drain(stage.queue(topic))
    expect(stored).not.toContain('waiting')
    expect(sending.health.at(-1)).toBe('up')
  })
})
