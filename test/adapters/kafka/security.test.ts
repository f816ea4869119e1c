import { afterAll, afterEach, describe, expect, it } from 'vitest'

import { Opened } from '../../../adapters/kafka/opened.ts'
import { resolveOptions, type KafkaOptions } from '../../../adapters/kafka/options.ts'
import { KafkaSender } from '../../../adapters/kafka/sender.ts'
import type { BrokerState, SendOutcome } from '../../../src/contract/broker.ts'
import { sleep, systemClock, systemRandom } from '../../../src/contract/clock.ts'
import { noCrashes } from '../../../src/contract/crash-points.ts'
import { silent } from '../../../src/contract/events.ts'
import { startKafka } from '../../brokers/kafka.ts'
import { KafkaSecurity } from '../../brokers/kafka-security.ts'
import { driverUnderTest } from './client-under-test.ts'
import { draft } from '../../conformance/broker/envelopes.ts'

const security = await KafkaSecurity.make()
/** The broker ends connections that have not logged in again by then; clients do so ten seconds before. */
const SESSION_MS = 12_000
const conf = [`listener.name.secure.connections.max.reauth.ms=${SESSION_MS}`]
const { node, remove } = await startKafka({ security, conf })
afterAll(remove)

const { ca, client, user } = security
const secure = { brokers: node.secureBroker, tls: { ca } }
const mutual = { brokers: node.mutualBroker, tls: { ca, ...client } }

const opened: Opened[] = []
const abort = new AbortController()
const states: BrokerState[] = []
afterEach(async () => {
  for (const one of opened.splice(0)) await one.stop(systemClock.now() + 5_000)
  states.length = 0
})

async function open(given: KafkaOptions, signal = abort.signal): Promise<Opened> {
  const context = { clock: systemClock, random: systemRandom, crash: noCrashes, emit: silent }
  const options = resolveOptions({ connectTimeoutMs: 5_000, driver: driverUnderTest, ...given })
  const one = await Opened.open(options, { ...context, signal }, (state) => states.push(state))
  opened.push(one)
  return one
}

type Publish = () => Promise<SendOutcome>

/** Does something with a topic that is made for it. */
async function publishing<T>(
  given: KafkaOptions,
  topic: string,
  work: (publish: Publish) => Promise<T>,
): Promise<T> {
  const one = await open(given)
  const levels = { partitions: 1, ordering: 'key', retryLevelsMs: [] } as const
  await one.provisioner.provision({ topics: [{ name: topic, groups: ['g'], ...levels }] }, 'create')
  const sender = new KafkaSender({
    driver: one.drivers.producer,
    topics: one.topics,
    limits: one.capabilities.limits,
    options: resolveOptions(given),
    context: one.context,
    purpose: 'publish',
    health: () => undefined,
  })
  const publish: Publish = () =>
    new Promise((resolve) => {
      sender.send([draft(topic)], systemClock.now() + 10_000, (_, __, outcome) => resolve(outcome))
    })
  try {
    return await work(publish)
  } finally {
    await sender.close(systemClock.now() + 1_000)
  }
}

/** What it says while it tries. */
async function refusal(given: KafkaOptions): Promise<string> {
  const patience = new AbortController()
  const opening = open(given, patience.signal)
  opening.catch(() => undefined)
  await expect.poll(() => states.length, { timeout: 10_000 }).toBeGreaterThan(0)
  patience.abort(new Error('given up'))
  await expect(opening).rejects.toThrow('given up')
  return states[0]?.reason ?? ''
}

describe('a connection to kafka', () => {
  it.each<readonly [string, KafkaOptions]>([
    ['plain', { ...secure, sasl: { mechanism: 'plain', ...user } }],
    ['scram-256', { ...secure, sasl: { mechanism: 'scram-sha-256', ...user } }],
    ['scram-512', { ...secure, sasl: { mechanism: 'scram-sha-512', ...user } }],
    [
      'oauth',
      { ...secure, sasl: { mechanism: 'oauthbearer', token: async () => security.token() } },
    ],
    ['mtls', mutual],
  ])('publishes over TLS, logged in by %s', async (name, given) => {
    const outcome = await publishing(given, `security-${name}`, (publish) => publish())
    expect(outcome).toMatchObject({ status: 'confirmed' })
  })

  it.each<readonly [string, KafkaOptions, RegExp]>([
    [
      'a wrong password',
      { ...secure, sasl: { mechanism: 'plain', ...user, password: 'wrong-secret' } },
      /look at the option sasl/,
    ],
    [
      'a wrong password by SCRAM',
      { ...secure, sasl: { mechanism: 'scram-sha-512', ...user, password: 'wrong-secret' } },
      /look at the option sasl/,
    ],
    [
      'a token that has run out',
      { ...secure, sasl: { mechanism: 'oauthbearer', token: async () => security.token(-60) } },
      /Closed connection|refused the token/,
    ],
    ['a broker that nobody vouches for', { ...mutual, tls: { ...client } }, /certificate/],
    ['no certificate of its own', { ...mutual, tls: { ca } }, /asking the cluster failed/],
  ])('does not open with %s, says why, and tries again', async (_, given, why) => {
    const reason = await refusal(given)
    expect(reason).toMatch(why)
    expect(reason).not.toMatch(/wrong-secret/)
  })

  it('asks for a token each time it logs in', async () => {
    let asked = 0
    const token = async () => {
      asked++
      if (asked === 1) throw new Error('the issuer is away')
      return security.token()
    }
    await open({ ...secure, sasl: { mechanism: 'oauthbearer', token } })
    expect(states[0]?.reason).toMatch(/sasl.token gave no token: the issuer is away/)
    expect(asked).toBeGreaterThan(1)
  })

  it('goes on beyond the end of its session, by a new token', { timeout: 60_000 }, async () => {
    let asked = 0
    const token = async () => {
      asked++
      return security.token()
    }
    const given: KafkaOptions = { ...secure, sasl: { mechanism: 'oauthbearer', token } }
    await publishing(given, 'security-session', async (publish) => {
      await publish()
      const before = asked
      const until = systemClock.now() + SESSION_MS + 2_000
      while (systemClock.now() < until) {
        expect(await publish()).toMatchObject({ status: 'confirmed' })
        await sleep(systemClock, 200)
      }
      expect(asked).toBeGreaterThan(before)
    })
  })
})
