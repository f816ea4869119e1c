import { createHmac } from 'node:crypto'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import type { Credentials } from '../../../adapters/rabbitmq/options.ts'
import { systemClock } from '../../../src/contract/clock.ts'
import { startNode, type OwnNode } from '../../brokers/rabbitmq.ts'
import { Listener } from '../../conformance/broker/listener.ts'
import { BrokerStage, contextOf, envelopeTo, sent, soon, topologyOf } from './broker-stage.ts'

const SECRET = 'a-secret-that-only-issuer-and-broker-have'
const LIFE_S = 8

let own: OwnNode
beforeAll(async () => {
  own = await startNode()
  const { node } = own
  await node.run('rabbitmq-plugins', '--quiet', 'enable', 'rabbitmq_auth_backend_oauth2')
  const key = `{map, #{<<"kty">> => <<"oct">>, <<"k">> => <<"${base64url(SECRET)}">>, <<"alg">> => <<"HS256">>}}`
  for (const setting of [
    'rabbitmq_auth_backend_oauth2, resource_server_id, <<"rabbitmq">>',
    `rabbitmq_auth_backend_oauth2, key_config, [{signing_keys, #{<<"k1">> => ${key}}}]`,
    'rabbit, auth_backends, [rabbit_auth_backend_internal, rabbit_auth_backend_oauth2]',
  ]) {
    await node.ctl('eval', `application:set_env(${setting}).`)
  }
}, 300_000)
afterAll(() => own.remove())

function base64url(text: string): string {
  return Buffer.from(text).toString('base64url')
}

/** A token of the issuer, good for some seconds. */
function tokenFor(seconds: number): string {
  const nowS = Math.floor(systemClock.wallMs() / 1_000)
  const header = base64url(JSON.stringify({ alg: 'HS256', typ: 'JWT', kid: 'k1' }))
  // The third part is the routing key of a topic exchange.
  const scope = ['rabbitmq.configure:*/*/*', 'rabbitmq.write:*/*/*', 'rabbitmq.read:*/*/*']
  const claims = { sub: 'app', aud: ['rabbitmq'], exp: nowS + seconds, scope }
  const signed = `${header}.${base64url(JSON.stringify(claims))}`
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`
}

describe('OAuth 2 tokens', () => {
  it('are renewed on the living connections: nothing is refused, nothing reconnects', async () => {
    const stage = await BrokerStage.on(own.node)
    let asked = 0
    const credentials = async (): Promise<Credentials> => {
      asked++
      return { username: 'app', password: tokenFor(LIFE_S), expiresInMs: LIFE_S * 1_000 }
    }
    const { broker, states } = await stage.open({ credentials })
    await broker.provision(topologyOf('orders'), 'create')
    const listener = new Listener(systemClock, ({ delivery }) => delivery.ack())
    const subscription = { topics: ['orders'], group: 'a', ordering: 'none', from: 'now' } as const
    const maxHeld = { messages: 10, bytes: 1_000_000 }
    listener.attach(await broker.receive({ ...subscription, maxHeld }, listener))
    const sender = broker.sender('publish')
    const outcomes: string[] = []
    const until = systemClock.now() + 3 * LIFE_S * 1_000
    function send(): void {
      const envelope = envelopeTo('orders', `m${outcomes.length}`)
      sender.send([envelope], systemClock.now() + 5_000, (_from, _to, { status }) => {
        outcomes.push(status)
        if (systemClock.now() < until) systemClock.after(200, send)
        else outcomes.push('end')
      })
    }
    states.length = 0
    send()
    await soon('three lives of a token', () => outcomes.at(-1) === 'end')
    expect(new Set(outcomes)).toEqual(new Set(['confirmed', 'end']))
    expect(asked).toBeGreaterThanOrEqual(9)
    expect(states).toEqual([])
    expect(listener.lostSources).toEqual([])
    await soon('all arrived', () => listener.received.length === outcomes.length - 1)
    expect(await broker.provision(topologyOf('more'), 'create')).toEqual([])
    await stage.close()
  })

  it('that the broker does not take are a reason to connect again, and named', async () => {
    const stage = await BrokerStage.on(own.node)
    const credentials = async (): Promise<Credentials> => ({
      username: 'app',
      password: tokenFor(-10),
    })
    const broker = stage.broker({ credentials })
    const reasons: (string | null)[] = []
    broker.onState(({ reason }) => void reasons.push(reason))
    const opening = expect(broker.open(contextOf([]))).rejects.toMatchObject({ code: 'closed' })
    await soon(
      () => reasons.join('\n'),
      () => reasons.some((reason) => /ACCESS.REFUSED/.test(reason ?? '')),
    )
    await broker.close(systemClock.now() + 5_000)
    await opening
    await stage.close()
  })

  it('shorten no work when the issuer is away for a while: the connection is made again when it is back', async () => {
    const stage = await BrokerStage.on(own.node)
    let isAway = false
    const credentials = async (): Promise<Credentials> => {
      if (isAway) throw new Error('the issuer is away')
      return { username: 'app', password: tokenFor(LIFE_S), expiresInMs: LIFE_S * 1_000 }
    }
    const { broker, states } = await stage.open({ credentials })
    await broker.provision(topologyOf('orders'), 'create')
    isAway = true
    await soon('it is noticed', () => states.at(-1)?.status === 'down')
    isAway = false
    await soon('it is back', () => states.at(-1)?.status === 'up')
    expect(await sent(broker, envelopeTo('orders', 'one'))).toEqual({ status: 'confirmed' })
    await stage.close()
  })
})
