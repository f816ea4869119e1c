import { afterEach, describe, expect, it } from 'vitest'

import { systemClock } from '../../../src/contract/clock.ts'
import { eventually } from '../../conformance/wait.ts'
import { client, FarEnd, type End } from './far-end.ts'
import { FaultProxy } from './fault-proxy.ts'

const LIMIT_MS = 5_000
const cleanUps: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).toReversed()) await cleanUp()
})

const soon = (what: string, condition: () => boolean): Promise<void> =>
  eventually(systemClock, LIMIT_MS, () => what, condition)

/** A server that sends everything back, behind a proxy. */
async function behindProxy(): Promise<{ proxy: FaultProxy; far: FarEnd }> {
  const far = await FarEnd.start(({ socket }) => socket.on('data', (data) => socket.write(data)))
  cleanUps.push(() => far.close())
  const proxy = await FaultProxy.start({
    target: () => ({ host: '127.0.0.1', port: far.port }),
    protocol: 'bytes',
  })
  cleanUps.push(() => proxy.close())
  return { proxy, far }
}

async function connected(proxy: FaultProxy): Promise<End> {
  const end = await client(proxy.port)
  cleanUps.push(() => end.socket.destroy())
  return end
}

const came = (end: End, text: string): Promise<void> =>
  soon(`${text} came, not ${end.received.toString()}`, () => end.received.toString() === text)

describe('the proxy without faults', () => {
  it('moves bytes both ways, also many', async () => {
    const { proxy } = await behindProxy()
    const end = await connected(proxy)
    const sent = Buffer.alloc(5_000_000, 'abcdefghij')
    end.socket.write(sent)
    await soon('all came back', () => end.received.length === sent.length)
    expect(end.received.equals(sent)).toBe(true)
  })

  it('passes an end on after what was sent before it', async () => {
    const { proxy, far } = await behindProxy()
    const end = await connected(proxy)
    end.socket.end('last words')
    await soon('the end arrived', () => far.ends[0]?.ended === 'end')
    expect(far.ends[0]?.received.toString()).toBe('last words')
    far.ends[0]?.socket.end('answer')
    await soon('the answer arrived', () => end.ended === 'end')
    expect(end.received.toString()).toBe('last wordsanswer')
    await soon('the connection is over', () => proxy.links.length === 0)
  })

  it('resets its client when there is nobody to connect to', async () => {
    const { proxy, far } = await behindProxy()
    await far.close()
    const end = await connected(proxy)
    await soon('it was reset', () => end.ended !== null)
  })
})

describe('a faulty line', () => {
  it('delays, and counts what it delayed', async () => {
    const { proxy } = await behindProxy()
    const end = await connected(proxy)
    const fault = proxy.delay('down', 80)
    const from = performance.now()
    end.socket.write('late')
    await came(end, 'late')
    expect(performance.now() - from).toBeGreaterThanOrEqual(79)
    expect(fault.fired).toBeGreaterThan(0)
    fault.heal()
    const fired = fault.fired
    end.socket.write('+')
    await came(end, 'late+')
    expect(fault.fired).toBe(fired)
  })

  it('throttles to a few bytes a second, and in the other direction not at all', async () => {
    const { proxy, far } = await behindProxy()
    const end = await connected(proxy)
    const fault = proxy.throttle('down', 20)
    const sent = 'x'.repeat(10)
    const from = performance.now()
    end.socket.write(sent)
    await soon('it arrived', () => far.ends[0]?.received.length === 10)
    await came(end, sent)
    expect(performance.now() - from).toBeGreaterThan(200)
    expect(fault.fired).toBeGreaterThan(0)
  })

  it('makes the sender feel that it is slow', async () => {
    const { proxy } = await behindProxy()
    const end = await connected(proxy)
    const fault = proxy.throttle('up', 1)
    for (let n = 0; n < 100; n++) end.socket.write(Buffer.alloc(1_000_000))
    await soon('nothing came', () => fault.fired > 0)
    let last = -1
    let seen = 0
    await soon('the kernel takes more and more', () => {
      seen = end.socket.writableLength === last ? seen + 1 : 0
      last = end.socket.writableLength
      return seen === 10
    })
    expect(end.socket.writableLength).toBeGreaterThan(50_000_000)
  })

  it('loses one direction and tells nobody', async () => {
    const { proxy, far } = await behindProxy()
    const end = await connected(proxy)
    const fault = proxy.drop('down')
    end.socket.write('there')
    await soon('it was dropped', () => fault.fired > 0)
    expect(far.ends[0]?.received.toString()).toBe('there')
    fault.heal()
    end.socket.write('back')
    await came(end, 'back')
    expect(end.ended).toBeNull()
  })

  it('is a black hole until it heals, and loses nothing', async () => {
    const { proxy, far } = await behindProxy()
    const end = await connected(proxy)
    end.socket.write('1')
    await came(end, '1')
    const fault = proxy.blackHole()
    end.socket.write('2')
    await soon('it went in', () => fault.fired > 0)
    expect(far.ends[0]?.received.toString()).toBe('1')
    fault.heal()
    await came(end, '12')
  })
})

describe('a faulty connection', () => {
  it('is reset for both sides', async () => {
    const { proxy, far } = await behindProxy()
    const end = await connected(proxy)
    end.socket.write('x')
    await came(end, 'x')
    expect(proxy.reset()).toBe(1)
    await soon('both were reset', () => end.ended === 'reset' && far.ends[0]?.ended === 'reset')
    expect(proxy.links).toEqual([])
  })

  it('is cut after exactly that many bytes, and the next one is not', async () => {
    const { proxy, far } = await behindProxy()
    const fault = proxy.cutAfter('up', 1_000)
    const end = await connected(proxy)
    end.socket.write(Buffer.alloc(700))
    end.socket.write(Buffer.alloc(700))
    await soon('it was cut', () => fault.fired === 1 && end.ended !== null)
    expect(far.ends[0]?.received.length).toBe(1_000)
    const next = await connected(proxy)
    next.socket.write(Buffer.alloc(2_000))
    await soon('all came back', () => next.received.length === 2_000)
  })

  it('is accepted and never answered', async () => {
    const { proxy, far } = await behindProxy()
    const fault = proxy.halfOpen()
    const end = await connected(proxy)
    end.socket.write('anybody?')
    await soon('it was accepted', () => fault.fired === 1)
    fault.heal()
    const next = await connected(proxy)
    next.socket.write('you')
    await came(next, 'you')
    expect(far.ends).toHaveLength(1)
    expect(end.received.length).toBe(0)
    expect(end.ended).toBeNull()
  })

  it('is refused until that heals', async () => {
    const { proxy, far } = await behindProxy()
    const fault = proxy.refuse()
    const end = await client(proxy.port).catch(() => null)
    await soon('it was reset', () => end === null || end.ended !== null)
    expect(fault.fired).toBe(1)
    expect(far.ends).toEqual([])
    fault.heal()
    const next = await connected(proxy)
    next.socket.write('in')
    await came(next, 'in')
  })

  it('goes on in one direction when the other has ended', async () => {
    const { proxy, far } = await behindProxy()
    const end = await connected(proxy)
    end.socket.write('x')
    await came(end, 'x')
    proxy.links[0]?.halfClose('down')
    await soon('the client saw the end', () => end.ended === 'end')
    end.socket.write('y')
    await soon('it still arrives', () => far.ends[0]?.received.toString() === 'xy')
  })
})
