import assert from 'node:assert/strict'

import { afterEach, describe, expect, it } from 'vitest'

import { HoldfastError } from '../../../src/contract/errors.ts'
import { refused, stored, tooLarge, unknown } from './fake-producers.ts'
import { envelopeOf, SendingDesk } from './sending-desk.ts'

let desk = new SendingDesk()

afterEach(() => {
  const breaches = [...desk.breaches, ...desk.driver.breaches]
  desk = new SendingDesk()
  assert.deepEqual(breaches, [])
})

/** The sender knows the topic and has nothing under way. */
async function warm(more: ConstructorParameters<typeof SendingDesk>[0] = {}): Promise<SendingDesk> {
  desk = new SendingDesk(more)
  desk.send(['0warm'])
  await desk.clock.settle()
  desk.driver.open[0]?.answer()
  await desk.clock.settle()
  expect(desk.words).toEqual({ '0warm': 'confirmed' })
  desk.driver.flights.length = 0
  desk.outcomes.clear()
  return desk
}

describe('sending to Kafka', () => {
  it('writes a batch for each partition, in one request for each leader', async () => {
    await warm()
    desk.send(['0a', '2b', '1c', '0d'])
    expect(desk.driver.texts).toEqual(['t/0: 0a 0d; t/1: 1c', 't/2: 2b'])
    desk.driver.flights[0]?.answer(stored('41'))
    await desk.clock.settle()
    expect(desk.words).toEqual({ '0a': 'confirmed', '1c': 'confirmed', '0d': 'confirmed' })
    expect(desk.outcomes.get('0d')).toMatchObject({ at: { partition: 0, offset: '42' } })
    desk.driver.flights[1]?.answer(stored(null))
    await desk.clock.settle()
    expect(desk.outcomes.get('2b')).toEqual({ status: 'confirmed' })
  })

  it('has one request of a producer unresolved; what arrives meanwhile goes together', async () => {
    await warm()
    desk.send(['0a'])
    desk.send(['0b', '1c'])
    desk.send(['0d'])
    expect(desk.driver.texts).toEqual(['t/0: 0a'])
    desk.driver.flights[0]?.answer()
    await desk.clock.settle()
    expect(desk.driver.texts).toEqual(['t/0: 0a', 't/1: 1c; t/0: 0b 0d'])
    expect(desk.driver.producers).toHaveLength(1)
  })

  it('divides the partitions of a leader over its producers', async () => {
    await warm({ producersPerLeader: 2 })
    desk.send(['0a', '1b'])
    desk.send(['0c', '1d'])
    expect(desk.driver.texts).toEqual(['t/0: 0a', 't/1: 1b'])
    desk.driver.flights[1]?.answer()
    await desk.clock.settle()
    expect(desk.driver.texts).toEqual(['t/0: 0a', 't/1: 1b', 't/1: 1d'])
  })

  it('throws a producer away that is not usable any more', async () => {
    await warm()
    desk.send(['0a'])
    desk.driver.flights[0]?.answer(unknown())
    await desk.clock.settle()
    desk.send(['0b'])
    expect(desk.words).toEqual({ '0a': 'unknown connection-lost' })
    const [first, second] = desk.driver.producers
    expect(first?.isClosed).toBe(true)
    expect(second?.flight?.text).toBe('t/0: 0b')
  })

  it('keeps everything of one order on one partition, also without keys', async () => {
    await warm({ partitioner: 'java' })
    desk.driver.onFlight = (flight) => flight.answer()
    for (let call = 0; call < 3; call++) {
      desk.send(Array.from({ length: 150 }, (_, at) => `-${call}-${at}*all`))
      await desk.clock.settle()
    }
    const parts = desk.driver.flights.flatMap((flight) => flight.parts)
    expect(new Set(parts.map(({ partition }) => partition)).size).toBe(1)
  })

  it('fills batches with what has neither key nor order, on partitions by turns', async () => {
    await warm()
    desk.driver.onFlight = (flight) => flight.answer()
    const partitions = new Set<number>()
    for (let call = 0; call < 40; call++) {
      desk.send([`-a${call}`, `-b${call}`])
      await desk.clock.settle()
      const parts = desk.driver.flights.at(-1)?.parts ?? []
      expect(parts.map(({ records }) => records.length)).toEqual([2])
      partitions.add(parts[0]?.partition as number)
    }
    expect(partitions.size).toBe(1)
    desk.send(Array.from({ length: 350 }, (_, at) => `-many${at}`))
    await desk.clock.settle()
    const many = desk.driver.flights.slice(-3).flatMap(({ parts }) => parts)
    expect(new Set(many.map(({ partition }) => partition)).size).toBeGreaterThan(1)
  })

  it('waits with the followers of a key behind what is given back, and goes on in order', async () => {
    await warm()
    desk.send(['0a', '1b'])
    desk.send(['0c', '1d'])
    desk.driver.flights[0]?.tell(0, refused({ stale: true }))
    desk.driver.flights[0]?.answer(stored())
    await desk.clock.settle()
    expect(desk.driver.texts).toEqual(['t/0: 0a; t/1: 1b', 't/1: 1d'])
    desk.topics.set('t', [2, 1, 2, 2])
    await desk.clock.advance(200)
    expect(desk.topics.staleTopics).toEqual(['t'])
    expect(desk.driver.texts.at(-1)).toBe('t/0: 0a 0c')
    for (const flight of desk.driver.open) flight.answer()
    await desk.clock.settle()
    expect(Object.values(desk.words)).toEqual(Array.from({ length: 4 }, () => 'confirmed'))
    expect(desk.health).toContain('weak')
    expect(desk.health.at(-1)).toBe('up')
  })

  it('does not let a partition without a new leader hold up the others of its request', async () => {
    await warm()
    desk.send(['0a', '1b'])
    desk.driver.flights[0]?.tell(1, stored())
    desk.send(['0c', '1d'])
    await desk.clock.settle()
    expect(desk.words).toEqual({ '1b': 'confirmed' })
    expect(desk.driver.texts).toEqual(['t/0: 0a; t/1: 1b', 't/1: 1d'])
    expect(desk.driver.producers).toHaveLength(2)
    desk.driver.flights[0]?.answer()
    await desk.clock.settle()
    expect(desk.words).toMatchObject({ '0a': 'confirmed' })
    // The second producer is busy: what was held up goes when its answer is there.
    desk.driver.flights[1]?.answer()
    await desk.clock.settle()
    expect(desk.driver.texts.at(-1)).toBe('t/0: 0c')
    expect(desk.driver.producers.filter(({ isClosed }) => !isClosed)).toHaveLength(1)
  })

  it('looks where the leaders are when an answer takes long', async () => {
    await warm()
    desk.send(['0a'])
    desk.send(['1b'])
    desk.topics.set('t', [1, 2, 2, 2])
    await desk.clock.advance(3_100)
    expect(desk.driver.texts).toEqual(['t/0: 0a', 't/1: 1b'])
  })

  it('finds the one that makes the broker refuse all of them', async () => {
    await warm()
    const bodies = Array.from({ length: 9 }, (_, at) => `0m${at}*k${at}`)
    desk.driver.onFlight = (flight) => {
      flight.answer(flight.text.includes('0m6') ? tooLarge() : stored())
    }
    desk.send(bodies)
    await desk.clock.settle()
    const { '0m6*k6': culprit, ...others } = desk.words
    expect(culprit).toBe('refused too-large')
    expect(Object.values(others)).toEqual(Array.from({ length: 8 }, () => 'confirmed'))
    expect(desk.driver.flights.length).toBeLessThan(10)
  })

  it('stores nothing of a key behind one that failed in the same call', async () => {
    await warm()
    desk.maxBodyBytes = 50
    const big = `0big${'x'.repeat(50)}*k`
    desk.driver.onFlight = (flight) => flight.answer()
    desk.send(['0a*k', big, '0b*other', '0c*k', '1d*k'])
    await desk.clock.settle()
    expect(desk.words).toEqual({
      '0a*k': 'confirmed',
      [big]: 'refused too-large',
      '0b*other': 'confirmed',
      '0c*k': 'refused predecessor',
      '1d*k': 'refused predecessor',
    })
  })

  it('ends what stands behind a lost batch of the same call, also across batches', async () => {
    await warm()
    desk.topics.set('t', [1, 1, 2, 2], 300)
    await desk.topics.look('t')
    desk.send(['0a*k', '0b*k', '0c*k', '0d*other'])
    expect(desk.driver.texts).toEqual(['t/0: 0a*k'])
    desk.driver.onFlight = (flight) => flight.answer()
    desk.driver.flights[0]?.answer(unknown())
    await desk.clock.settle()
    expect(desk.words).toEqual({
      '0a*k': 'unknown connection-lost',
      '0b*k': 'refused predecessor',
      '0c*k': 'refused predecessor',
      '0d*other': 'confirmed',
    })
  })

  it('gives a refused batch its own reason once for each key', async () => {
    await warm()
    desk.send(['0a*k', '0b*k', '0c*other'])
    desk.driver.flights[0]?.answer(refused())
    await desk.clock.settle()
    expect(desk.words).toEqual({
      '0a*k': 'refused unavailable',
      '0b*k': 'refused predecessor',
      '0c*other': 'refused unavailable',
    })
  })

  it('refuses at the deadline what was not written, and does not know of what was', async () => {
    await warm()
    desk.send(['0a'], 100)
    desk.send(['0b'], 200)
    await desk.clock.advance(99)
    expect(desk.words).toEqual({})
    await desk.clock.advance(1)
    expect(desk.words).toEqual({ '0a': 'unknown timeout' })
    await desk.clock.advance(100)
    expect(desk.words).toEqual({ '0a': 'unknown timeout', '0b': 'refused not-sent' })
    desk.driver.flights[0]?.answer()
    await desk.clock.settle()
    expect(desk.driver.texts).toEqual(['t/0: 0a'])
    expect(desk.events).toContainEqual({
      type: 'publish.late',
      topic: 't',
      id: 'id-0a',
      outcome: 'confirmed',
    })
  })

  it('writes nothing whose deadline has passed, however late its timer is', async () => {
    await warm()
    desk.send(['0a', '1b'], 0)
    desk.send(['0c'], -1_000)
    desk.send(['0d'])
    expect(desk.driver.texts).toEqual(['t/0: 0d'])
    await desk.clock.settle()
    expect(desk.words).toEqual({
      '0a': 'refused not-sent',
      '1b': 'refused not-sent',
      '0c': 'refused not-sent',
    })
  })

  it('gives a request until just before the last of its deadlines', async () => {
    await warm()
    desk.send(['0a', '1b'], 500)
    desk.send(['0c'], 900)
    desk.driver.flights[0]?.answer()
    await desk.clock.settle()
    const now = desk.clock.now()
    expect(desk.driver.flights.map(({ deadline }) => deadline - now)).toEqual([490, 890])
  })

  it('refuses what goes to a topic that is not there', async () => {
    desk.topics.layouts.clear()
    desk.send(['0a'])
    await desk.clock.settle()
    expect(desk.words).toEqual({ '0a': 'refused unroutable' })
    desk.topics.set('t', [1])
    desk.send(['0b'])
    await desk.clock.settle()
    expect(desk.driver.texts).toEqual(['t/0: 0b'])
  })

  it('refuses what waits for a topic that was deleted', async () => {
    await warm()
    desk.send(['0a'])
    desk.send(['0b'])
    desk.topics.layouts.clear()
    desk.driver.flights[0]?.answer(refused({ stale: true }))
    await desk.clock.advance(200)
    expect(desk.words).toEqual({ '0a': 'refused unroutable', '0b': 'refused unroutable' })
  })

  it('waits for a cluster that is away until the deadline', async () => {
    desk.topics.error = new HoldfastError('connection-lost', 'away')
    desk.send(['0a'], 300)
    desk.send(['0b'], 60_000)
    await desk.clock.advance(20_000)
    expect(desk.words).toEqual({ '0a': 'refused not-sent' })
    expect(desk.topics.looks).toBeLessThan(60)
    expect(desk.health.at(-1)).toBe('away')
    desk.topics.error = null
    await desk.clock.advance(2_000)
    expect(desk.driver.texts).toEqual(['t/0: 0b'])
  })

  it('is up again when the cluster answers and nothing is left to be sent', async () => {
    await warm()
    desk.send(['0a'], 100)
    desk.topics.error = new HoldfastError('connection-lost', 'away')
    desk.driver.flights[0]?.answer(refused({ stale: true }))
    await desk.clock.advance(200)
    expect(desk.words).toEqual({ '0a': 'refused not-sent' })
    await desk.clock.advance(20_000)
    expect(desk.health).toEqual(['up', 'weak', 'away'])
    desk.topics.error = null
    await desk.clock.advance(5_000)
    expect(desk.health).toEqual(['up', 'weak', 'away', 'up'])
    await desk.clock.advance(60_000)
    expect(desk.clock.timers).toBe(0)
  })

  it('refuses at once what this user may not look at', async () => {
    desk.topics.error = new HoldfastError('topology', 'TOPIC_AUTHORIZATION_FAILED')
    desk.send(['0a'])
    await desk.clock.settle()
    expect(desk.words).toEqual({ '0a': 'refused rejected' })
  })

  it('waits for a partition without a leader, and not with the others', async () => {
    desk.topics.set('t', [null, 1])
    desk.send(['0a', '1b'])
    await desk.clock.settle()
    expect(desk.driver.texts).toEqual(['t/1: 1b'])
    desk.topics.set('t', [2, 1])
    await desk.clock.advance(3_000)
    expect(desk.driver.texts).toEqual(['t/1: 1b', 't/0: 0a'])
  })

  it('refuses what alone does not fit the topic, and takes what just fits', async () => {
    desk.topics.set('t', [1, 1], 400)
    desk.driver.onFlight = (flight) => flight.answer()
    const fitting = `0${'x'.repeat(70)}`
    const large = `1${'y'.repeat(200)}`
    desk.send([fitting, large])
    await desk.clock.settle()
    expect(desk.words).toEqual({ [fitting]: 'confirmed', [large]: 'refused too-large' })
    expect((desk.outcomes.get(large) as { error: Error }).error.message).toContain('400')
  })

  it.each([
    [() => 7, 'no partition 7'],
    [() => -1, 'no partition -1'],
    [() => 1.5, 'no partition 1.5'],
    [
      () => {
        throw new Error('of the user')
      },
      'of the user',
    ],
  ])('refuses what the partitioner cannot place (%#)', async (partitioner, why) => {
    await warm()
    desk = new SendingDesk({ partitioner })
    desk.send(['0a', '-b'])
    await desk.clock.settle()
    expect(desk.words['0a']).toBe('refused rejected')
    expect((desk.outcomes.get('0a') as { error: Error }).error.message).toContain(why)
    expect(desk.driver.flights.flatMap(({ text }) => text)).toEqual([expect.stringContaining('-b')])
  })

  it('has no destination for replies', async () => {
    const reported: string[] = []
    const envelope = envelopeOf('0a', { kind: 'reply', address: 'somebody' })
    desk.sender.send([envelope], 1_000, (_from, _to, outcome) => reported.push(outcome.status))
    expect(reported).toEqual([])
    await desk.clock.settle()
    expect(reported).toEqual(['refused'])
  })

  it('goes on as if a topic had not grown', async () => {
    await warm({ partitioner: 'java', frozenPartitionCount: new Map([['t', 1]]) })
    desk.send(['0a', '1b', '2c', '3d'])
    expect(desk.driver.texts).toEqual(['t/0: 0a 1b 2c 3d'])
  })

  it('refuses what it has not written when it is closed, and waits for the rest', async () => {
    await warm()
    desk.send(['0a'])
    desk.send(['0b'])
    const closed = desk.sender.close(desk.clock.now() + 1_000)
    desk.send(['0c'])
    await desk.clock.settle()
    expect(desk.words).toEqual({ '0b': 'refused not-sent', '0c': 'refused not-sent' })
    desk.driver.flights[0]?.answer()
    await desk.clock.settle()
    await closed
    expect(desk.words).toMatchObject({ '0a': 'confirmed' })
    expect(desk.driver.producers.every(({ isClosed }) => isClosed)).toBe(true)
    expect(desk.clock.timers).toBe(0)
  })

  it('does not know of what was not answered when the time to close is over', async () => {
    await warm()
    desk.send(['0a'])
    const closed = desk.sender.close(desk.clock.now() + 1_000)
    await desk.clock.advance(1_001)
    await closed
    expect(desk.words).toEqual({ '0a': 'unknown timeout' })
    desk.driver.flights[0]?.answer()
    await desk.clock.settle()
    expect(desk.clock.timers).toBe(0)
  })

  it('knows of what is on its way at the end whether it was written', async () => {
    await warm()
    desk.send(['0a'])
    const [producer] = desk.driver.producers
    const close = producer!.close.bind(producer)
    // As a producer that is still connecting.
    producer!.close = () => {
      desk.driver.flights[0]?.answer(refused({ stale: true }))
      return close()
    }
    const closed = desk.sender.close(desk.clock.now() + 1_000)
    await desk.clock.advance(1_001)
    await closed
    expect(desk.words).toEqual({ '0a': 'refused unavailable' })
    expect(desk.clock.timers).toBe(0)
  })

  it('writes nothing again that is given back while it closes', async () => {
    await warm()
    desk.send(['0a'])
    const closed = desk.sender.close(desk.clock.now() + 1_000)
    desk.driver.flights[0]?.answer(refused({ stale: true }))
    await desk.clock.settle()
    await closed
    expect(desk.words).toEqual({ '0a': 'refused unavailable' })
    expect(desk.driver.flights).toHaveLength(1)
    expect(desk.clock.timers).toBe(0)
  })

  it('keeps nothing of what ended while it waited', async () => {
    await warm()
    desk.send(['0held'], 100_000)
    for (let call = 0; call < 20; call++) {
      desk.send(
        Array.from({ length: 100 }, (_, at) => `0w${call}-${at}`),
        10,
      )
      await desk.clock.advance(20)
    }
    desk.driver.flights[0]?.answer()
    desk.send(['0last'])
    await desk.clock.settle()
    expect(desk.driver.texts).toEqual(['t/0: 0held', 't/0: 0last'])
  })
})
