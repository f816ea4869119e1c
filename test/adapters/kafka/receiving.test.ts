import { describe, expect, it } from 'vitest'

import { decodeProgress } from '../../../adapters/kafka/offset-metadata.ts'
import { HoldfastError } from '../../../src/contract/errors.ts'
import { FakeDriver } from './fake-driver.ts'
import { numbers, part, ReceivingStage, retryOf } from './receiving-stage.ts'

const ackAtOnce = {
  onReceived: (
    received: Parameters<ReceivingStage['listener']['ack']>[0],
    by: { ack(one: typeof received): void },
  ) => by.ack(received),
}

/** As another process that takes over what is committed. */
async function takeOver(before: ReceivingStage): Promise<ReceivingStage> {
  const next = new ReceivingStage()
  Object.assign(next.driver, { logs: before.driver.logs, offsets: before.driver.offsets })
  return next.receive()
}

describe('what is handed over', () => {
  it('begins at the committed offset, in order', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(10))
    stage.driver.offsets.set('orders/0', { offset: 4n, metadata: null })
    await stage.receive()
    expect(stage.bodies).toEqual(numbers(6, 4))
    stage.driver.append('orders/0', ['later'])
    await stage.clock.settle()
    expect(stage.bodies.at(-1)).toBe('later')
    expect(stage.of('later').delivery.at).toBe('orders/0:10')
    await stage.close()
  })

  it('is nothing before the start is committed', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(3))
    let open = (): void => undefined
    stage.driver.commitGate = new Promise((resolve) => (open = resolve))
    await stage.receive()
    expect(stage.bodies).toEqual([])
    open()
    await stage.clock.settle()
    expect(stage.bodies).toEqual(numbers(3))
    expect(stage.committed()).toBe(0n)
    await stage.close()
  })

  it('begins where the log does when the group has no offset, and says so', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(5))
    stage.driver.deleteBefore('orders/0', 2n)
    await stage.receive()
    expect(stage.bodies).toEqual(numbers(3, 2))
    expect(stage.driver.commits[0]?.[0]).toMatchObject({ offset: 2n })
    expect(stage.warned('kafka.no-offset')).toBe(true)
    await stage.close()
  })

  it('is never handed over twice while it is ours, whatever the client reads again', async () => {
    const stage = new ReceivingStage()
    stage.driver.isForgetful = true
    stage.driver.append('orders/0', numbers(6))
    await stage.receive()
    stage.ack('0', '3')
    stage.driver.consumer.assign([part(0)])
    stage.driver.consumer.repeat(part(0), 0n)
    await stage.clock.advance(2_000)
    stage.driver.consumer.assign([part(0)])
    await stage.clock.settle()
    expect(stage.bodies).toEqual(numbers(6))
    stage.driver.append('orders/0', ['6'])
    await stage.clock.settle()
    expect(stage.bodies).toEqual(numbers(7))
    await stage.close()
  })

  it('stays within the bound on messages, over all partitions', async () => {
    const stage = new ReceivingStage()
    const parts = [0, 1, 2].map((n) => part(n))
    for (const { partition } of parts) stage.driver.append(`orders/${partition}`, numbers(20))
    await stage.receive({ parts, maxHeld: { messages: 7 } })
    expect(stage.listener.held.size).toBe(7)
    for (let left = 60; left > 0; left--) {
      const [first] = stage.listener.held
      stage.listener.ack(first!)
      await stage.clock.settle()
      expect(stage.listener.held.size).toBeLessThanOrEqual(7)
    }
    expect(stage.bodies).toHaveLength(60)
    await stage.close()
  })

  it('goes round the partitions, so that none starves', async () => {
    const stage = new ReceivingStage()
    const parts = [0, 1].map((n) => part(n))
    stage.driver.append('orders/0', numbers(5_000))
    stage.driver.append('orders/1', ['other'])
    await stage.receive({ parts, maxHeld: { messages: 1_000 } })
    expect(stage.bodies).toContain('other')
    await stage.close()
  })

  it('leaves room to others when one partition is slow', async () => {
    const stage = new ReceivingStage()
    const parts = [0, 1, 2].map((n) => part(n))
    stage.driver.append('orders/0', numbers(5_000))
    await stage.receive({
      parts,
      maxHeld: { messages: 1_000 },
      // The first partition is never through with anything.
      onReceived: (received, by) => {
        if (received.delivery.source.name !== 'orders/0') by.ack(received)
      },
    })
    expect(stage.listener.held.size).toBe(800)
    stage.driver.append('orders/1', numbers(5_000))
    stage.driver.append('orders/2', numbers(5_000))
    await stage.clock.settle()
    expect(stage.listener.received.length).toBeGreaterThanOrEqual(10_800)
    expect(stage.listener.held.size).toBeLessThanOrEqual(1_000)
    await stage.close()
  })

  it('is not held up by a partition that finds no room', async () => {
    const stage = new ReceivingStage()
    const parts = [0, 1, 2, 3].map((n) => part(n))
    for (const { partition } of parts) stage.driver.append(`orders/${partition}`, numbers(500))
    await stage.receive({ parts, maxHeld: { messages: 100 } })
    const { held, received } = stage.listener
    const isOther = ({ delivery }: (typeof received)[number]): boolean =>
      delivery.source.name !== 'orders/0'
    for (let round = 0; round < 200; round++) {
      for (const one of [...held].filter(isOther)) stage.listener.ack(one)
      await stage.clock.settle()
    }
    expect(received.filter(isOther)).toHaveLength(1_500)
    await stage.close()
  })

  it('leaves room to others when one partition has large ones', async () => {
    const stage = new ReceivingStage()
    const big = Array.from({ length: 20 }, () => 'x'.repeat(100_000))
    stage.driver.append('orders/0', big)
    await stage.receive({ parts: [part(0), part(1)], maxHeld: { bytes: 1_000_000 } })
    expect(stage.listener.held.size).toBe(8)
    stage.driver.append('orders/1', ['other'])
    await stage.clock.settle()
    expect(stage.bodies).toContain('other')
    await stage.close()
  })

  it.each([
    ['keys', { key: 'x'.repeat(100_000) }],
    ['headers', { headers: [['h', 'x'.repeat(100_000)]] }],
  ] as const)('counts bytes of %s as those of values, and gives them back', async (_, given) => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(20), given)
    await stage.receive({ maxHeld: { bytes: 1_000_000 } })
    for (let done = 0; done < 20;) {
      const held = [...stage.listener.held]
      expect(held.length).toBeGreaterThanOrEqual(Math.min(5, 20 - done))
      expect(held.length).toBeLessThan(10)
      for (const one of held) stage.listener.ack(one)
      done += held.length
      await stage.clock.settle()
    }
    expect(stage.bodies).toEqual(numbers(20))
    await stage.close()
  })

  it('reads no further when keys or headers of what waits are large', async () => {
    const stage = await new ReceivingStage().receive()
    stage.receiver.pause()
    stage.driver.append('orders/0', numbers(20), { headers: [['h', 'x'.repeat(100_000)]] })
    await stage.clock.settle()
    expect(stage.driver.consumer.paused).toContain('orders/0')
    stage.receiver.resume()
    await stage.clock.settle()
    expect(stage.bodies).toEqual(numbers(20))
    await stage.close()
  })

  it('stops at pause, also what is read meanwhile, and goes on at resume', async () => {
    const stage = await new ReceivingStage().receive()
    stage.receiver.pause()
    stage.driver.append('orders/0', numbers(3))
    await stage.clock.advance(60_000)
    expect(stage.bodies).toEqual([])
    stage.receiver.resume()
    await stage.clock.settle()
    expect(stage.bodies).toEqual(numbers(3))
    await stage.close()
  })

  it('stops for one partition alone', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', ['a'])
    stage.driver.append('orders/1', ['b'])
    await stage.receive({ parts: [part(0), part(1)] })
    stage.receiver.pause([stage.of('a').delivery.source])
    stage.driver.append('orders/0', ['a2'])
    stage.driver.append('orders/1', ['b2'])
    await stage.clock.settle()
    expect(stage.bodies.toSorted()).toEqual(['a', 'b', 'b2'])
    stage.receiver.resume([stage.of('a').delivery.source])
    await stage.clock.settle()
    expect(stage.bodies).toContain('a2')
    await stage.close()
  })

  it('remembers a pause over a loss of everything', async () => {
    const stage = await new ReceivingStage().receive()
    stage.receiver.pause()
    stage.driver.consumer.lose()
    stage.driver.consumer.assign([part(0), part(1)])
    stage.driver.append('orders/1', ['x'])
    await stage.clock.advance(10_000)
    expect(stage.bodies).toEqual([])
    stage.receiver.resume()
    await stage.clock.settle()
    expect(stage.bodies).toEqual(['x'])
    await stage.close()
  })

  it('is not fetched while enough of it waits, also after a client forgot that', async () => {
    const stage = new ReceivingStage()
    stage.driver.isForgetful = true
    const big = 'x'.repeat(100_000)
    stage.driver.batchSize = 1
    stage.driver.append(
      'orders/0',
      Array.from({ length: 60 }, () => big),
    )
    await stage.receive({ maxHeld: { messages: 1 } })
    const { consumer } = stage.driver
    expect(consumer.paused.has('orders/0')).toBe(true)
    consumer.assign([part(0)])
    expect(consumer.paused.has('orders/0')).toBe(true)
    for (let left = 60; left > 0; left--) {
      const [first] = stage.listener.held
      stage.listener.ack(first!)
      await stage.clock.settle()
    }
    expect(stage.bodies).toHaveLength(60)
    expect(consumer.paused.has('orders/0')).toBe(false)
    await stage.close()
  })

  it('says whether somebody may have had it before', async () => {
    const stage = new ReceivingStage()
    stage.driver.offsets.set('orders/0', { offset: 0n, metadata: 'holdfast:declared' })
    stage.driver.append('orders/0', numbers(3))
    await stage.receive()
    expect(stage.listener.received.map(({ redelivered }) => redelivered)).toEqual([
      'no',
      'no',
      'no',
    ])
    stage.ack('0')
    await stage.clock.advance(1_000)
    // It dies: what it may have begun by its last word is doubtful, up to there and no further.
    const { handedTo } = decodeProgress(1n, stage.driver.offsets.get('orders/0')!.metadata)!
    expect(handedTo).toBeGreaterThanOrEqual(1_000)
    stage.driver.consumers.length = 0
    stage.driver.append('orders/0', numbers(handedTo, 3))
    const next = await takeOver(stage)
    const doubtful = next.listener.received.filter(({ redelivered }) => redelivered === 'maybe')
    expect(doubtful).toHaveLength(handedTo)
    expect(next.listener.received.at(-1)?.redelivered).toBe('no')
  })

  it('does not go beyond what the broker knows it may hand out', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(50_000))
    await stage.receive({ ...ackAtOnce })
    expect(stage.bodies).toHaveLength(50_000)
    stage.driver.commitTroubles = Array.from({ length: 1_000 }, () => {
      return new HoldfastError('connection-lost', 'no')
    })
    const known = decodeProgress(stage.committed()!, stage.driver.offsets.get('orders/0')!.metadata)
    const mayHandTo = stage.committed()! + BigInt(known!.handedTo)
    stage.driver.append('orders/0', numbers(300_000))
    await stage.clock.advance(20_000)
    expect(stage.bodies.length).toBe(Number(mayHandTo))
    stage.driver.commitTroubles = []
    await stage.clock.advance(20_000)
    expect(stage.bodies).toHaveLength(350_000)
    await stage.close()
  })

  it('is doubtful as far as the log went where nobody of ours committed before', async () => {
    const stage = new ReceivingStage()
    stage.driver.offsets.set('orders/0', { offset: 0n, metadata: null })
    stage.driver.append('orders/0', numbers(2))
    await stage.receive()
    stage.driver.append('orders/0', ['new'])
    await stage.clock.settle()
    expect(stage.listener.received.map(({ redelivered }) => redelivered)).toEqual([
      'maybe',
      'maybe',
      'no',
    ])
    await stage.close()
  })

  it('counts attempts by the header', async () => {
    const stage = await new ReceivingStage().receive()
    stage.driver.append('orders/0', ['x'], { headers: [['holdfast-attempt', '6']] })
    stage.driver.append('orders/0', ['y'], { headers: [['holdfast-attempt', 'six']] })
    await stage.clock.settle()
    expect(stage.of('x')).toMatchObject({ attempt: 7, redelivered: 'yes' })
    expect(stage.of('y')).toMatchObject({ attempt: 1 })
    await stage.close()
  })
})

describe('what is committed', () => {
  it('is what is done without a gap, together, after a while', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(10))
    await stage.receive()
    const before = stage.driver.commits.length
    stage.ack('2', '0')
    await stage.clock.advance(1_000)
    expect(stage.committed()).toBe(1n)
    stage.ack('1', '3')
    await stage.clock.advance(1_000)
    expect(stage.committed()).toBe(4n)
    expect(stage.driver.commits.length).toBe(before + 2)
    await stage.clock.advance(10_000)
    expect(stage.driver.commits.length).toBe(before + 2)
    await stage.close()
  })

  it('goes past places that no record has', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', ['a'])
    stage.driver.leaveHole('orders/0', 3n)
    stage.driver.append('orders/0', ['b'])
    stage.driver.leaveHole('orders/0', 2n)
    await stage.receive({ ...ackAtOnce })
    await stage.clock.advance(1_000)
    expect(stage.committed()).toBe(7n)
    stage.driver.leaveHole('orders/0', 1n)
    await stage.clock.advance(1_000)
    expect(stage.committed()).toBe(8n)
    await stage.close()
  })

  it('lets only what is open come again after a crash', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(5_000))
    await stage.receive()
    for (const one of stage.listener.held) {
      if (Buffer.from(one.envelope.body!).toString() !== '5') stage.listener.ack(one)
    }
    await stage.clock.advance(1_000)
    expect(stage.committed()).toBe(5n)
    const next = await takeOver(stage)
    expect(next.bodies).toEqual(['5'])
    next.ack('5')
    await next.clock.advance(1_000)
    expect(next.committed()).toBe(5_000n)
  })

  it('is one request at a time, whatever is settled meanwhile', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(100))
    await stage.receive()
    let open = (): void => undefined
    stage.driver.commitGate = new Promise((resolve) => (open = resolve))
    const before = stage.driver.commits.length
    for (const body of numbers(50)) {
      stage.ack(body)
      await stage.clock.advance(300)
    }
    expect(stage.driver.commits.length).toBe(before)
    open()
    await stage.clock.advance(1_000)
    expect(stage.driver.commits.length).toBe(before + 2)
    expect(stage.committed()).toBe(50n)
    await stage.close()
  })

  it('is tried again until the broker has it', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(3))
    await stage.receive()
    const lost = new HoldfastError('connection-lost', 'away')
    stage.driver.commitTroubles = [lost, lost, lost]
    stage.ack('0')
    await stage.clock.advance(10_000)
    expect(stage.committed()).toBe(1n)
    await stage.close()
  })

  it('says after half a minute of failures that something is wrong', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(3))
    await stage.receive()
    const lost = new HoldfastError('connection-lost', 'away')
    stage.driver.commitTroubles = Array.from({ length: 1_000 }, () => lost)
    stage.ack('0')
    await stage.clock.advance(29_000)
    expect(stage.healths.at(-1)?.[0]).toBe('up')
    await stage.clock.advance(5_000)
    expect(stage.healths.at(-1)).toEqual(['weak', 'nothing can be committed: away'])
    stage.driver.commitTroubles = []
    await stage.clock.advance(5_000)
    expect(stage.healths.at(-1)?.[0]).toBe('up')
    await stage.close()
  })

  it('is repeated without its metadata when that is too large for the broker', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(4))
    await stage.receive()
    stage.driver.commitTroubles = [new HoldfastError('too-large', 'OFFSET_METADATA_TOO_LARGE')]
    stage.ack('0', '2')
    await stage.clock.advance(600)
    expect(stage.driver.offsets.get('orders/0')).toEqual({ offset: 1n, metadata: null })
    expect(stage.warned('kafka.metadata-too-large')).toBe(true)
    const flush = stage.receiver.flush(stage.clock.now() + 1_000)
    await expect(stage.clock.run(flush)).rejects.toMatchObject({ code: 'settle' })
    stage.ack('1')
    await stage.clock.run(stage.receiver.flush(stage.clock.now() + 1_000))
    expect(stage.committed()).toBe(3n)
    await stage.close()
  })

  it('never goes back', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(10))
    await stage.receive({ ...ackAtOnce })
    await stage.clock.advance(1_000)
    const offsets = stage.driver.commits.flatMap((one) => one.map(({ offset }) => offset))
    expect(offsets).toEqual([...offsets].sort((one, other) => Number(one - other)))
    await stage.close()
  })

  it('is never under an assignment that is over', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(3))
    stage.driver.append('orders/1', numbers(3))
    await stage.receive({ parts: [part(0), part(1)] })
    const [kept, lost] = ['orders/0', 'orders/1'].map((name) =>
      stage.listener.received.filter(({ delivery }) => delivery.source.name === name),
    )
    for (const one of lost!) stage.listener.ack(one)
    stage.driver.consumer.assign([part(0)])
    stage.driver.offsets.delete('orders/1')
    for (const one of kept!) stage.listener.ack(one)
    await stage.clock.advance(2_000)
    expect(stage.committed('orders/0')).toBe(3n)
    expect(stage.committed('orders/1')).toBeUndefined()
    await stage.close()
  })

  it('goes out under the next assignment for what is kept', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(3))
    await stage.receive()
    stage.ack('0')
    stage.driver.commitTroubles = [new HoldfastError('aborted', 'a rebalance')]
    await stage.clock.advance(600)
    stage.driver.consumer.assign([part(0), part(1)])
    await stage.clock.settle()
    expect(stage.committed()).toBe(1n)
    await stage.close()
  })

  it('is nothing for a partition that was never begun', async () => {
    const stage = new ReceivingStage()
    stage.driver.offsets.set('orders/0', { offset: 7n, metadata: null })
    stage.driver.append('orders/0', numbers(9))
    const away = new HoldfastError('connection-lost', 'away')
    stage.driver.committedTroubles = Array.from({ length: 20 }, () => away)
    await stage.receive()
    const { callbacks } = stage.driver.consumer
    const yielded = callbacks.yielding(1, [part(0)], stage.clock.now() + 1_000)
    await stage.clock.run(yielded)
    expect(stage.committed()).toBe(7n)
    await stage.close()
  })

  it('is offsets alone where the client writes nothing beside them', async () => {
    const stage = new ReceivingStage({ commitMetadata: false })
    stage.driver.append('orders/0', numbers(4))
    await stage.receive()
    stage.ack('0', '2')
    await stage.clock.advance(1_000)
    expect(stage.driver.offsets.get('orders/0')).toEqual({ offset: 1n, metadata: null })
    await stage.close()
  })
})

describe('flush', () => {
  it('resolves when all that was settled is at the broker', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(3))
    await stage.receive()
    stage.ack('0', '1')
    await stage.clock.run(stage.receiver.flush(stage.clock.now() + 1_000))
    expect(stage.committed()).toBe(2n)
    await stage.clock.run(stage.receiver.flush(stage.clock.now() + 1_000))
    await stage.close()
  })

  it('rejects at its deadline with how many are not', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(3))
    await stage.receive()
    stage.driver.commitGate = new Promise(() => undefined)
    stage.ack('0', '1')
    const flush = stage.receiver.flush(stage.clock.now() + 1_000)
    await expect(stage.clock.run(flush)).rejects.toMatchObject({
      code: 'settle',
      message: expect.stringContaining('up to 2 settles') as string,
    })
    await stage.close()
  })

  it('rejects once for settles that were lost with their partition', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(3))
    await stage.receive()
    stage.ack('0', '2')
    stage.driver.consumer.assign([])
    const flush = (): Promise<void> => stage.receiver.flush(stage.clock.now() + 1_000)
    await expect(stage.clock.run(flush())).rejects.toMatchObject({ code: 'settle' })
    await stage.clock.run(flush())
    expect(stage.events.some((event) => event.type === 'settle.failed')).toBe(true)
    await stage.close()
  })
})

describe('partitions that go', () => {
  it('are lost at once where nobody asks, with stale settles told', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(3))
    await stage.receive()
    const { source } = stage.of('0').delivery
    stage.driver.consumer.lose()
    expect(stage.listener.lostSources).toEqual([source])
    stage.of('0').delivery.ack()
    stage.of('1').delivery.release()
    expect(stage.events.filter((event) => event.type === 'settle.stale')).toHaveLength(2)
    stage.driver.consumer.assign([part(0)])
    await stage.clock.settle()
    expect(stage.bodies).toEqual([...numbers(3), ...numbers(3)])
    const [first, again] = [stage.listener.received[0]!, stage.listener.received[3]!]
    expect(again.delivery.source).not.toBe(first.delivery.source)
    expect(again.delivery.source.epoch).toBeGreaterThan(first.delivery.source.epoch)
    expect(again.redelivered).toBe('maybe')
    await stage.close()
  })

  it('are finished and committed before they are given up', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(4))
    await stage.receive()
    stage.ack('0', '2')
    const { callbacks } = stage.driver.consumer
    const yielded = callbacks.yielding(1, [part(0)], stage.clock.now() + 10_000)
    stage.driver.append('orders/0', ['more'])
    await stage.clock.run(yielded)
    expect(stage.bodies).not.toContain('more')
    const { offset, metadata } = stage.driver.offsets.get('orders/0')!
    // What was handed out and not finished is doubtful; what was not handed out is not.
    expect(decodeProgress(offset, metadata)).toEqual({ handedTo: 3, doneTo: 2, open: [0] })
    expect(stage.listener.lostSources).toEqual([])
    await stage.close()
  })

  it('are given up at the deadline, finished or not', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(2))
    await stage.receive()
    stage.listener.revoking = () => new Promise(() => undefined)
    const { callbacks } = stage.driver.consumer
    const yielded = callbacks.yielding(1, [part(0)], stage.clock.now() + 10_000)
    await stage.clock.run(yielded)
    expect(stage.clock.now()).toBeLessThanOrEqual(10_000)
    expect(stage.listener.lostSources).toHaveLength(1)
    await stage.close()
  })

  it('free the room that their deliveries took', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(5))
    stage.driver.append('orders/1', numbers(5, 10))
    await stage.receive({ maxHeld: { messages: 5 } })
    expect(stage.bodies).toEqual(numbers(5))
    stage.driver.consumer.assign([part(1)])
    await stage.clock.settle()
    expect(stage.bodies).toEqual([...numbers(5), ...numbers(5, 10)])
    for (const one of stage.listener.received) one.delivery.ack()
    stage.driver.append('orders/1', numbers(5, 20))
    await stage.clock.settle()
    expect(stage.listener.received).toHaveLength(15)
    await stage.close()
  })
})

describe('what is given back', () => {
  it('comes again, in its order, as the same attempt', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(4))
    await stage.receive()
    stage.receiver.pause()
    const given = ['3', '1'].map((body) => stage.of(body))
    for (const one of given) stage.listener.settle(one, (delivery) => delivery.release())
    stage.ack('0', '2')
    await stage.clock.advance(1_000)
    expect(stage.committed()).toBe(1n)
    stage.driver.append('orders/0', ['4'])
    stage.receiver.resume()
    await stage.clock.settle()
    expect(stage.bodies).toEqual([...numbers(4), '1', '3', '4'])
    expect(stage.of('1')).toMatchObject({ attempt: 1, redelivered: 'yes' })
    given[0]!.delivery.ack()
    await stage.clock.advance(1_000)
    expect(stage.committed()).toBe(1n)
    stage.ack('1', '3', '4')
    await stage.clock.advance(1_000)
    expect(stage.committed()).toBe(5n)
    await stage.close()
  })

  it('is known to the next owner to be all that was ever handed out', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(3))
    await stage.receive({ ...ackAtOnce })
    await stage.clock.run(stage.receiver.flush(stage.clock.now() + 1_000))
    await stage.close()
    stage.driver.append('orders/0', ['new'])
    const next = await takeOver(stage)
    expect(next.listener.received.map(({ redelivered }) => redelivered)).toEqual(['no'])
  })

  it('is told before it is given up, also after a commit that was on its way', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(3))
    await stage.receive()
    const gates: (() => void)[] = []
    const gate = (): void => {
      stage.driver.commitGate = new Promise((resolve) => void gates.push(resolve))
    }
    gate()
    stage.ack('0', '1', '2')
    await stage.clock.advance(600)
    gate()
    const { consumer } = stage.driver
    let isGivenUp = false
    const by = stage.clock.now() + 5_000
    const yielding = consumer.callbacks.yielding(consumer.epoch, [part(0)], by)
    const yielded = yielding.then(() => (isGivenUp = true))
    await stage.clock.settle()
    gates[0]!()
    await stage.clock.settle()
    expect(isGivenUp).toBe(false)
    gates[1]!()
    await stage.clock.run(yielded)
    stage.driver.append('orders/0', ['new'])
    const next = await takeOver(stage)
    expect(next.listener.received.map(({ redelivered }) => redelivered)).toEqual(['no'])
    await next.close()
    await stage.close()
  })

  it('comes to the next owner after close', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(4))
    await stage.receive()
    stage.ack('0', '2')
    stage.listener.settle(stage.of('1'), (delivery) => delivery.release())
    await stage.close()
    expect(stage.driver.consumer.isClosed).toBe(true)
    stage.driver.append('orders/0', ['new'])
    const next = await takeOver(stage)
    expect(next.bodies).toEqual(['1', '3', 'new'])
    expect(next.listener.received.map(({ redelivered }) => redelivered)).toEqual([
      'maybe',
      'maybe',
      'no',
    ])
  })
})

describe('retry topics', () => {
  it('are read too, and hand nothing out before its time', async () => {
    const stage = new ReceivingStage()
    stage.levels = [
      { topic: retryOf(0), levelMs: 0 },
      { topic: retryOf(5_000), levelMs: 5_000 },
    ]
    const parts = [part(0), part(0, retryOf(0)), part(0, retryOf(5_000))]
    await stage.receive({ parts })
    expect(stage.driver.consumer.spec.topics).toEqual(['orders', retryOf(0), retryOf(5_000)])
    const attempt = { headers: [['holdfast-attempt', '1']] } as const
    stage.driver.append(`${retryOf(5_000)}/0`, ['later'], attempt)
    stage.driver.append(`${retryOf(0)}/0`, ['now'])
    await stage.clock.advance(1_000)
    expect(stage.bodies).toEqual(['now'])
    // Stored half a second before it came here, by the broker's clock.
    const timestampMs = stage.clock.wallMs() - 500
    stage.driver.append(`${retryOf(5_000)}/0`, ['last'], { ...attempt, timestampMs })
    await stage.clock.advance(3_999)
    expect(stage.bodies).toEqual(['now'])
    await stage.clock.advance(1)
    expect(stage.bodies).toEqual(['now', 'later'])
    await stage.clock.advance(500)
    expect(stage.bodies).toEqual(['now', 'later'])
    await stage.clock.advance(1)
    expect(stage.bodies).toEqual(['now', 'later', 'last'])
    expect(stage.of('later')).toMatchObject({ attempt: 2, redelivered: 'yes' })
    expect(stage.of('now').redelivered).toBe('maybe')
    expect(stage.of('later').envelope.to).toEqual({ kind: 'topic', topic: 'orders' })
    await stage.close()
  })

  it('come when they are due, whatever else was lost meanwhile', async () => {
    const stage = new ReceivingStage()
    stage.levels = [5_000, 6_000].map((levelMs) => ({ topic: retryOf(levelMs), levelMs }))
    const parts = [part(0, retryOf(5_000)), part(0, retryOf(6_000))]
    await stage.receive({ parts })
    for (const { topic } of parts) stage.driver.append(`${topic}/0`, [topic])
    await stage.clock.advance(3_000)
    stage.driver.consumer.assign([parts[1]!])
    await stage.clock.advance(2_900)
    expect(stage.bodies).toEqual([])
    await stage.clock.advance(200)
    expect(stage.bodies).toEqual([retryOf(6_000)])
    await stage.close()
  })

  it('are not waited for any more when they are lost', async () => {
    const stage = new ReceivingStage()
    const [day, week] = [86_400_000, 7 * 86_400_000]
    stage.levels = [day, week].map((levelMs) => ({ topic: retryOf(levelMs), levelMs }))
    const parts = [part(0, retryOf(day)), part(0, retryOf(week))]
    await stage.receive({ parts })
    const before = stage.clock.timers
    stage.driver.append(`${retryOf(day)}/0`, ['in a day'])
    await stage.clock.settle()
    stage.driver.append(`${retryOf(week)}/0`, ['in a week'])
    await stage.clock.advance(1_000)
    expect(stage.clock.timers).toBe(before + 1)
    stage.driver.consumer.assign([parts[1]!])
    await stage.clock.advance(1_000)
    expect(stage.clock.timers).toBe(before + 1)
    stage.driver.consumer.assign([])
    await stage.clock.advance(1_000)
    expect(stage.clock.timers).toBe(before)
    await stage.close()
  })

  it('wait no longer than their delay, however far ahead the broker is in time', async () => {
    const stage = new ReceivingStage()
    stage.levels = [{ topic: retryOf(5_000), levelMs: 5_000 }]
    await stage.receive({ parts: [part(0, retryOf(5_000))] })
    const timestampMs = stage.clock.wallMs() + 3_600_000
    stage.driver.append(`${retryOf(5_000)}/0`, ['x'], { timestampMs })
    await stage.clock.advance(4_999)
    expect(stage.bodies).toEqual([])
    await stage.clock.advance(10_000)
    expect(stage.bodies).toEqual(['x'])
    await stage.close()
  })

  it('are joined when they appear, and left when they go', async () => {
    const stage = await new ReceivingStage().receive()
    stage.levels = [{ topic: retryOf(1_000), levelMs: 1_000 }]
    await stage.clock.advance(61_000)
    expect(stage.driver.consumer.subscribed).toEqual([['orders', retryOf(1_000)]])
    stage.driver.consumer.assign([part(0), part(0, retryOf(1_000))])
    stage.driver.append(`${retryOf(1_000)}/0`, ['x'])
    await stage.clock.advance(500)
    expect(stage.bodies).toEqual([])
    await stage.clock.advance(1_000)
    expect(stage.bodies).toEqual(['x'])
    stage.levels = []
    await stage.clock.advance(61_000)
    expect(stage.driver.consumer.subscribed.at(-1)).toEqual(['orders'])
    await stage.close()
  })
})

describe('a log that lost something', () => {
  it('is read on from where it begins, and the loss is told', async () => {
    const stage = new ReceivingStage()
    stage.driver.offsets.set('orders/0', { offset: 2n, metadata: null })
    stage.driver.append('orders/0', numbers(10))
    stage.driver.deleteBefore('orders/0', 6n)
    await stage.receive({ ...ackAtOnce })
    expect(stage.bodies).toEqual(numbers(4, 6))
    const loss = stage.events.find(
      (event) => event.type === 'warning' && event.code === 'kafka.data-loss',
    )
    expect(JSON.stringify(loss)).toContain('4 offsets of orders/0, from 2 to 6')
    await stage.clock.advance(1_000)
    expect(stage.committed()).toBe(10n)
    await stage.close()
  })

  it('is read from its start when it ends before what was committed', async () => {
    const stage = new ReceivingStage()
    stage.driver.offsets.set('orders/0', { offset: 500n, metadata: null })
    stage.driver.append('orders/0', numbers(3))
    await stage.receive({ ...ackAtOnce })
    expect(stage.bodies).toEqual(numbers(3))
    expect(stage.warned('kafka.data-loss')).toBe(true)
    await stage.clock.advance(1_000)
    expect(stage.committed()).toBe(3n)
    await stage.close()
  })
})

describe('reading that does not get on', () => {
  it('is a weakness until it does, whatever is assigned meanwhile', async () => {
    const stage = await new ReceivingStage().receive()
    const { consumer } = stage.driver
    consumer.callbacks.troubled(1, 'its leader is away')
    expect(stage.healths.at(-1)).toEqual(['weak', 'its leader is away'])
    consumer.assign([part(0), part(1)])
    expect(stage.healths.at(-1)).toEqual(['weak', 'its leader is away'])
    consumer.callbacks.troubled(2, null)
    expect(stage.healths.at(-1)).toEqual(['up', null])
    await stage.close()
  })

  it('is over with the membership it is of', async () => {
    const stage = await new ReceivingStage().receive()
    const { consumer } = stage.driver
    consumer.callbacks.troubled(1, 'its leader is away')
    consumer.callbacks.failed(new HoldfastError('connection-lost', 'it crashed'))
    await stage.clock.settle()
    expect(stage.healths.at(-1)).toEqual(['away', 'it crashed'])
    await stage.clock.advance(1_000)
    expect(stage.healths.at(-1)).toEqual(['up', null])
    consumer.callbacks.troubled(1, 'the one before')
    expect(stage.healths.at(-1)).toEqual(['up', null])
    await stage.close()
  })
})

describe('a consumer that fails', () => {
  it('is replaced by another one, which goes on', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(3))
    await stage.receive()
    stage.ack('0')
    await stage.clock.advance(1_000)
    const { consumer } = stage.driver
    consumer.callbacks.failed(new HoldfastError('connection-lost', 'it crashed'))
    await stage.clock.settle()
    expect(stage.healths.at(-1)).toEqual(['away', 'it crashed'])
    expect(stage.listener.lostSources).toHaveLength(1)
    expect(consumer.isClosed).toBe(true)
    await stage.clock.advance(1_000)
    expect(stage.driver.consumers).toHaveLength(2)
    expect(stage.healths.at(-1)?.[0]).toBe('up')
    expect(stage.bodies).toEqual(['0', '1', '2', '1', '2'])
    // What the old one still says is not heard.
    consumer.callbacks.records(9, part(0), [], 99n, 99n)
    consumer.callbacks.lost(9)
    expect(stage.listener.lostSources).toHaveLength(1)
    await stage.close()
  })

  it('is made again and again, more slowly, until it can join', async () => {
    const stage = new ReceivingStage()
    const away = (): Error => new HoldfastError('connection-lost', 'away')
    stage.driver.joins = Array.from({ length: 8 }, () => away)
    await stage.receive()
    expect(stage.driver.consumers).toHaveLength(0)
    await stage.clock.advance(60_000)
    expect(stage.driver.consumers).toHaveLength(1)
    await stage.close()
  })

  it('ends the receiver where trying again does not help', async () => {
    const stage = await new ReceivingStage().receive()
    const forbidden = new HoldfastError('rejected', 'not allowed')
    stage.driver.consumer.callbacks.failed(forbidden)
    await stage.clock.settle()
    expect(stage.listener.ends).toEqual([forbidden])
    await stage.close()
    expect(stage.listener.ends).toHaveLength(1)
  })

  it('ends the receiver when its topic is gone, not when a retry topic is', async () => {
    const stage = await new ReceivingStage().receive()
    const gone = new HoldfastError('destination-gone', 'topic "orders.a.retry.1" is not there')
    stage.driver.consumer.callbacks.failed(gone)
    await stage.clock.advance(1_000)
    expect(stage.listener.ends).toEqual([])
    expect(stage.driver.consumers).toHaveLength(2)
    stage.existing = () => false
    stage.driver.consumer.callbacks.failed(gone)
    await stage.clock.settle()
    expect(stage.listener.ends[0]).toMatchObject({ code: 'destination-gone', topic: 'orders' })
    expect(stage.listener.ends[0]?.message).toContain('orders')
  })
})

describe('a member', () => {
  it('says every second at least that it is alive, since that is how it hears of others', async () => {
    const stage = await new ReceivingStage().receive()
    expect(stage.driver.consumer.spec.heartbeatIntervalMs).toBeLessThanOrEqual(1_000)
    await stage.close()
  })
})

describe('opening', () => {
  it('rejects when there is no such topic, and leaves nothing open', async () => {
    const stage = new ReceivingStage()
    stage.existing = () => false
    await expect(stage.clock.run(stage.begin())).rejects.toMatchObject({ code: 'topology' })
    await stage.clock.advance(10_000)
    expect(stage.driver.consumers).toEqual([])
    expect(stage.clock.timers).toBe(0)
  })

  it('does not wait for ever for a group that lets nobody in', async () => {
    const stage = new ReceivingStage()
    stage.driver.consume = (_spec, _callbacks, _deadline, signal) =>
      new Promise((_, reject) => {
        signal?.addEventListener('abort', () => reject(signal.reason as Error))
      })
    await stage.clock.run(stage.begin())
    expect(stage.clock.now()).toBe(5_000)
    await stage.close()
    expect(stage.clock.timers).toBe(0)
  })

  it('reads several topics, with a consumer each', async () => {
    const stage = new ReceivingStage()
    const consume = stage.driver.consume.bind(stage.driver)
    stage.driver.consume = async (spec, ...rest) => {
      stage.driver.first = [part(0, spec.topics[0])]
      return consume(spec, ...rest)
    }
    stage.driver.append('orders/0', ['o'])
    stage.driver.append('bills/0', ['b'])
    await stage.receive({ topics: ['orders', 'bills'] })
    expect(stage.driver.consumers.map(({ spec }) => spec.groupId)).toEqual(['orders.a', 'bills.a'])
    expect(stage.bodies.toSorted()).toEqual(['b', 'o'])
    expect(stage.of('b').envelope.to).toEqual({ kind: 'topic', topic: 'bills' })
    await stage.close()
  })
})

describe('ending', () => {
  it('hands nothing out after stop, and still settles', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(3))
    await stage.receive()
    await stage.receiver.stop(stage.clock.now() + 1_000)
    stage.driver.append('orders/0', ['later'])
    await stage.clock.settle()
    expect(stage.bodies).toEqual(numbers(3))
    stage.ack('0')
    await stage.clock.run(stage.receiver.flush(stage.clock.now() + 1_000))
    expect(stage.committed()).toBe(1n)
    await stage.close()
  })

  it('commits, leaves, tells nobody but the end, and leaves no timer', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(3))
    await stage.receive()
    stage.ack('0')
    await stage.close()
    await stage.close()
    expect(stage.committed()).toBe(1n)
    expect(stage.driver.consumer.isClosed).toBe(true)
    expect(stage.listener.lostSources).toEqual([])
    expect(stage.listener.ends).toEqual([undefined])
    expect(stage.clock.timers).toBe(0)
    stage.of('1').delivery.ack()
    await stage.clock.advance(5_000)
    expect(stage.committed()).toBe(1n)
  })

  it('ends at once while the group lets nobody in', async () => {
    const stage = new ReceivingStage()
    stage.driver.joins = Array.from({ length: 1_000 }, () => () => {
      return new HoldfastError('connection-lost', 'away')
    })
    await stage.receive()
    const before = stage.clock.now()
    await stage.close()
    expect(stage.clock.now() - before).toBeLessThan(100)
    expect(stage.clock.timers).toBe(0)
  })

  it('ends by the deadline although nothing can be committed', async () => {
    const stage = new ReceivingStage()
    stage.driver.append('orders/0', numbers(3))
    await stage.receive()
    stage.ack('0')
    stage.driver.commitGate = new Promise(() => undefined)
    const closed = stage.receiver.close(stage.clock.now() + 4_000)
    await expect(stage.clock.run(closed)).rejects.toMatchObject({ code: 'settle' })
    expect(stage.clock.now()).toBeLessThanOrEqual(4_000)
    expect(stage.driver.consumer.isClosed).toBe(true)
    expect(stage.listener.ends).toEqual([undefined])
  })
})

describe('memory', () => {
  it('lets go of the answer when a delivery or a record is kept for long', async () => {
    const stage = new ReceivingStage()
    const answer = Buffer.from('abcdefgh')
    const log = stage.driver.log('orders/0')
    for (let n = 0; n < 2; n++) {
      log.records.push({
        offset: log.end++,
        key: null,
        value: answer.subarray(n * 4, n * 4 + 4),
        headers: [],
        timestampMs: 0,
      })
    }
    await stage.receive({ maxHeld: { messages: 1 } })
    await stage.clock.advance(2_500)
    answer.fill(0)
    const [first] = stage.listener.held
    expect(Buffer.from(first!.delivery.envelope.body!).toString()).toBe('abcd')
    stage.listener.ack(first!)
    await stage.clock.settle()
    expect(stage.bodies.at(-1)).toBe('efgh')
    await stage.close()
  })
})

describe('a fake', () => {
  it('commits nothing under an epoch that is over', async () => {
    const driver = new FakeDriver(new ReceivingStage().clock)
    const consumer = await driver.consume({} as never, { assigned: () => undefined } as never, 0)
    driver.consumer.assign([part(0)])
    await expect(consumer.commit(0, [], 0)).rejects.toMatchObject({ code: 'aborted' })
  })
})
