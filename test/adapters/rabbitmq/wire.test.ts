import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer } from 'node:tls'
import { promisify } from 'node:util'

import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { Connector, type Connecting } from '../../../adapters/rabbitmq/connector.ts'
import { TokenRefresh } from '../../../adapters/rabbitmq/credentials.ts'
import {
  resolveOptions,
  type Credentials,
  type RabbitmqOptions,
  type Resolved,
} from '../../../adapters/rabbitmq/options.ts'
import { Supervisor } from '../../../adapters/rabbitmq/supervisor.ts'
import type { Wire } from '../../../adapters/rabbitmq/wire.ts'
import { systemClock, systemRandom } from '../../../src/contract/clock.ts'
import { isHoldfastError, type HoldfastError } from '../../../src/contract/errors.ts'
import { silent } from '../../../src/contract/events.ts'
import { FaultProxy } from '../../brokers/proxy/fault-proxy.ts'
import type { RabbitmqNode } from '../../brokers/rabbitmq-node.ts'
import { sharedNode } from '../../brokers/shared-node.ts'
import { eventually } from '../../conformance/wait.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'
import { contextOf } from './sending-stage.ts'

let node: RabbitmqNode
let proxy: FaultProxy
const ends: (() => unknown)[] = []

beforeEach(async () => {
  node = sharedNode()
  const { amqpPort } = node.address
  proxy = await FaultProxy.start({ target: () => ({ host: '127.0.0.1', port: amqpPort }) })
})

afterEach(async () => {
  for (const end of ends.splice(0)) await end()
  await proxy.close()
})

function connector(
  more: Partial<RabbitmqOptions> = {},
  override: Partial<Resolved> = {},
): Connector {
  const options = { ...resolveOptions({ url: node.url('/', proxy.port), ...more }), ...override }
  return new Connector(options, contextOf(silent))
}

async function failure(work: Promise<unknown>): Promise<HoldfastError> {
  const error = await work.then(
    () => null,
    (reason: unknown) => reason,
  )
  if (isHoldfastError(error)) return error
  throw new Error('it did not fail with an error of holdfast', { cause: error })
}

const soon = (what: () => string, condition: () => boolean): Promise<void> =>
  eventually(systemClock, 20_000, what, condition)
const deadline = (ms: number): number => systemClock.now() + ms

/** What keeps the process alive, of that kind. */
const active = (kind: string): number =>
  process.getActiveResourcesInfo().filter((one) => one === kind).length

function supervised(
  of: Connecting,
  setup: (wire: Wire) => Promise<void> = async () => undefined,
): { supervisor: Supervisor; lost: HoldfastError[]; health: string[] } {
  const lost: HoldfastError[] = []
  const health: string[] = []
  const supervisor = new Supervisor({
    purpose: 'test',
    connector: of,
    clock: systemClock,
    random: systemRandom,
    setup,
    lost: (error) => void lost.push(error),
    health: (state, reason) => void health.push(reason === null ? state : `${state}: ${reason}`),
  })
  ends.push(() => supervisor.stop(deadline(1_000)))
  supervisor.start()
  return { supervisor, lost, health }
}

const up = ({ supervisor }: { supervisor: Supervisor }): Promise<void> =>
  soon(
    () => 'no wire is up',
    () => supervisor.wire !== null,
  )

describe('a wire', () => {
  it('knows the version and answers requests on channels of both kinds', async () => {
    const wire = await connector().open('test')
    expect(wire.version[0]).toBeGreaterThanOrEqual(4)
    expect(wire.url).not.toContain('guest')
    const plain = await wire.channel(deadline(5_000))
    const { queue } = await wire.rpc('declare', () => plain.assertQueue('', { exclusive: true }))
    expect(queue).toContain('amq.gen')
    expect(await wire.confirmChannel(deadline(5_000))).toBeDefined()
    await wire.close(deadline(5_000))
    expect(wire.isOpen).toBe(false)
    expect((await failure(wire.channel(deadline(5_000)))).code).toBe('closed')
  })

  it('leaves other channels alone when the broker closes one', async () => {
    const wire = await connector().open('test')
    const [poor, good] = [await wire.channel(deadline(5_000)), await wire.channel(deadline(5_000))]
    await expect(wire.rpc('check', () => poor.checkQueue('no-such-queue'))).rejects.toThrow(/404/)
    await wire.rpc('declare', () => good.assertQueue('', { exclusive: true }))
    expect(wire.isOpen).toBe(true)
    await wire.close(deadline(5_000))
  })

  it('is told of an end without an error event: an operator closing all connections', async () => {
    const wire = await connector({ url: node.url() }).open('test')
    const told: HoldfastError[] = []
    wire.onClose((error) => void told.push(error))
    await node.closeAllConnections('by the test')
    await soon(
      () => 'not told',
      () => told.length > 0,
    )
    expect(told[0]?.code).toBe('connection-lost')
    expect(told[0]?.message).toContain('by the test')
    const late: HoldfastError[] = []
    wire.onClose((error) => void late.push(error))
    expect(late).toEqual(told)
  })

  it('ends when a request is not answered, and the socket with it', async () => {
    const wire = await connector({ rpcTimeoutMs: 300 }).open('test')
    const channel = await wire.channel(deadline(5_000))
    const hole = proxy.blackHole()
    const sockets = active('TCPSocketWrap')
    const error = await failure(wire.rpc('declare', () => channel.checkExchange('amq.topic')))
    expect([error.code, wire.isOpen]).toEqual(['timeout', false])
    await soon(
      () => `${active('TCPSocketWrap')} of ${sockets} sockets are open`,
      () => active('TCPSocketWrap') < sockets,
    )
    hole.heal()
  })

  it('closes by the deadline although nobody answers', async () => {
    const wire = await connector().open('test')
    const hole = proxy.blackHole()
    const began = systemClock.now()
    await wire.close(deadline(200))
    expect(systemClock.now() - began).toBeLessThan(2_000)
    expect(wire.isOpen).toBe(false)
    hole.heal()
  })

  it('closes at once when the connection breaks meanwhile', async () => {
    const wire = await connector().open('test')
    const hole = proxy.blackHole()
    const began = systemClock.now()
    const closing = wire.close(deadline(20_000))
    proxy.reset()
    await closing
    expect(systemClock.now() - began).toBeLessThan(5_000)
    hole.heal()
  })

  it('notices a peer that went silent by its heartbeat, and destroys the socket', async () => {
    const wire = await connector({}, { heartbeatS: 1 }).open('test')
    const hole = proxy.blackHole()
    const sockets = active('TCPSocketWrap')
    await soon(
      () => 'still open',
      () => !wire.isOpen,
    )
    await soon(
      () => `${active('TCPSocketWrap')} of ${sockets} sockets are open`,
      () => active('TCPSocketWrap') < sockets,
    )
    hole.heal()
  })
})

describe('opening', () => {
  it('ends by connectTimeoutMs when nobody answers, with no socket left', async () => {
    const silence = proxy.halfOpen()
    const before = active('TCPSocketWrap')
    const began = systemClock.now()
    const error = await failure(connector({ connectTimeoutMs: 300 }).open('test'))
    expect(error.code).toBe('connection-lost')
    expect(systemClock.now() - began).toBeLessThan(3_000)
    expect(silence.fired).toBe(1)
    silence.heal()
    // The proxy keeps its end.
    await soon(
      () => `${active('TCPSocketWrap')} sockets, ${before} before`,
      () => active('TCPSocketWrap') <= before + 1,
    )
  })

  it('takes the next address after one that failed', async () => {
    const dead = 'amqp://guest:guest@127.0.0.1:1/'
    const of = connector({ url: [dead, node.url(), dead] })
    const wires: Wire[] = []
    for (let n = 0; n < 6 && wires.length < 3; n++) {
      const wire = await of.open('test').catch(() => null)
      if (wire !== null) wires.push(wire)
    }
    // Found after at most two failures, and stayed with.
    expect(wires.map(({ generation }) => generation)).toEqual([1, 2, 3])
    for (const wire of wires) await wire.close(deadline(5_000))
  })

  it('says what is wrong with credentials and virtual hosts, without showing them', async () => {
    const wrong = node.url().replace('guest:guest', 'guest:secret')
    const login = await failure(connector({ url: wrong }).open('test'))
    expect([login.code, login.message]).toEqual(['unavailable', expect.stringContaining('login')])
    expect(login.message).not.toContain('secret')
    const vhost = await failure(connector({ url: node.url('nowhere') }).open('test'))
    expect([vhost.code, vhost.message]).toEqual([
      'unavailable',
      expect.stringContaining('virtual host'),
    ])
  })

  it('asks for credentials each time, and bounds how long that takes', async () => {
    const asked: Credentials[] = []
    const of = connector({
      url: node.url().replace('guest:guest@', ''),
      credentials: async () => {
        const one = { username: 'guest', password: asked.length === 0 ? 'wrong' : 'guest' }
        asked.push(one)
        return one
      },
    })
    expect((await failure(of.open('test'))).code).toBe('unavailable')
    await (await of.open('test')).close(deadline(5_000))
    expect(asked).toHaveLength(2)
    const never = connector({
      connectTimeoutMs: 200,
      credentials: () => new Promise(() => undefined),
    })
    const error = await failure(never.open('test'))
    expect([error.code, error.message]).toEqual([
      'unavailable',
      expect.stringContaining('credentials()'),
    ])
  })

  it('refuses credentials whose life is no time, and says so', async () => {
    for (const expiresInMs of [Number.NaN, 0, -1, Number.POSITIVE_INFINITY]) {
      const given = { username: 'guest', password: 'guest', expiresInMs }
      const error = await failure(connector({ credentials: async () => given }).open('test'))
      expect(error.message).toContain(
        `expiresInMs: got ${expiresInMs}; allowed: milliseconds above 0`,
      )
    }
  })

  it('speaks TLS: accepted with its authority, refused without', async () => {
    const { port, ca, end } = await tlsTo(node.address.amqpPort)
    const url = `amqps://guest:guest@localhost:${port}/`
    const error = await failure(connector({ url }).open('test'))
    expect(error.code).toBe('connection-lost')
    expect(error.message).toMatch(/self.signed/i)
    const wire = await connector({ url, tls: { ca } }).open('test')
    expect(wire.isOpen).toBe(true)
    const closed = new Promise((resolve) => void wire.onClose(resolve))
    wire.destroy()
    await closed
    await end()
  })
})

describe('a supervisor', () => {
  it('comes back whenever the connection is cut, however soon after connecting', async () => {
    const one = supervised(connector(), async (wire) => {
      await wire.confirmChannel(deadline(5_000))
    })
    let cuts = 0
    for (let n = 0; n < 100; n++) {
      await soon(
        () => 'no connection',
        () => proxy.links.length > 0,
      )
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 60))
      cuts += proxy.reset()
    }
    await up(one)
    expect(cuts).toBeGreaterThan(50)
    expect(one.health.at(-1)).toBe('up')
    await one.supervisor.stop(deadline(5_000))
  })

  it('replaces a wire whose setup fails, and tells of every wire it set up', async () => {
    let tries = 0
    const one = supervised(connector(), async (wire) => {
      tries++
      const channel = await wire.channel(deadline(5_000))
      if (tries < 3) await wire.rpc('check', () => channel.checkQueue('no-such-queue'))
    })
    await up(one)
    expect([tries, one.lost.length]).toEqual([3, 2])
    expect(one.lost[0]?.message).toContain('404')
    await one.supervisor.stop(deadline(5_000))
    expect(one.lost).toHaveLength(3)
  })

  it('says blocked while the broker does not take messages', async () => {
    const one = supervised(connector())
    await up(one)
    const wire = one.supervisor.wire as Wire
    const channel = await wire.confirmChannel(deadline(5_000))
    const alarm = proxy.blockPublishers('low on test')
    channel.publish('amq.topic', 'x', Buffer.from('x'))
    await soon(
      () => one.health.join(),
      () => one.health.at(-1) === 'blocked: low on test',
    )
    expect(wire.blocked).toBe('low on test')
    alarm.heal()
    await soon(
      () => one.health.join(),
      () => one.health.at(-1) === 'up',
    )
    await one.supervisor.stop(deadline(5_000))
  })

  it('connects again at once when told to, and lets go of a wire without ending it', async () => {
    const one = supervised(connector())
    await up(one)
    const first = one.supervisor.wire as Wire
    one.supervisor.leave()
    await soon(
      () => 'no second wire',
      () => (one.supervisor.wire?.generation ?? 0) > first.generation,
    )
    expect([first.isOpen, one.lost.length]).toEqual([true, 0])
    first.destroy()
    await one.supervisor.stop(deadline(5_000))
  })

  it('stops while a connection is being made', async () => {
    const silence = proxy.halfOpen()
    const { supervisor } = supervised(connector({ connectTimeoutMs: 60_000 }))
    await soon(
      () => 'not tried',
      () => silence.fired > 0,
    )
    const began = systemClock.now()
    await supervisor.stop(deadline(10_000))
    expect(systemClock.now() - began).toBeLessThan(1_000)
    silence.heal()
  })
})

describe('keeping a token fresh', () => {
  const token = (password: string): Credentials => ({
    username: 'u',
    password,
    expiresInMs: 10_000,
  })

  it('asks at four fifths of its life, one at a time, and stops', async () => {
    const clock = new VirtualClock()
    const updated: [number, string][] = []
    const refresh = new TokenRefresh({
      clock,
      random: { ...systemRandom, next: () => 0 },
      ask: () => Promise.resolve(token(`t${updated.length}`)),
      update: (text) => Promise.resolve(void updated.push([clock.now(), text])),
      failed: () => expect.unreachable(),
    })
    refresh.follow(token('first'))
    await clock.advance(17_000)
    expect(updated).toEqual([
      [8_000, 't0'],
      [16_000, 't1'],
    ])
    refresh.stop()
    await clock.advance(100_000)
    expect([updated.length, clock.timers]).toEqual([2, 0])
  })

  it('tells when it failed, so that the connection is replaced', async () => {
    const clock = new VirtualClock()
    const failed: unknown[] = []
    const refresh = new TokenRefresh({
      clock,
      random: systemRandom,
      ask: () => Promise.resolve(token('new')),
      update: () => Promise.reject(new Error('refused')),
      failed: (cause) => void failed.push(cause),
    })
    refresh.follow(token('first'))
    await clock.advance(8_000)
    expect(failed).toEqual([new Error('refused')])
    expect(clock.timers).toBe(0)
  })
})

/** A door with TLS before a port of this machine; its certificate is made for the test. */
async function tlsTo(
  port: number,
): Promise<{ port: number; ca: string; end: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-tls-'))
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost']
  await promisify(execFile)('openssl', [
    ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2'],
    ...['-keyout', key, '-out', cert, ...subject],
  ])
  const ca = await readFile(cert, 'utf8')
  const sockets = new Set<Socket>()
  const server = createServer({ key: await readFile(key), cert: ca }, (client) => {
    const broker = connect(port, '127.0.0.1')
    for (const socket of [client, broker]) {
      sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => void (client.destroy(), broker.destroy()))
    }
    client.pipe(broker).pipe(client)
  })
  server.on('tlsClientError', () => undefined)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const end = async (): Promise<void> => {
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => server.close(resolve))
    await rm(folder, { recursive: true })
  }
  return { port: (server.address() as { port: number }).port, ca, end }
}
