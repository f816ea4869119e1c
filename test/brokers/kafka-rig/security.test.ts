import { Kafka, logLevel, type KafkaConfig, type SASLOptions } from 'kafkajs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { startKafka, type OwnKafka } from '../kafka.ts'
import { KafkaSecurity } from '../kafka-security.ts'
import { createTopic } from '../kafka-topics.ts'

describe('the listeners with TLS of the Kafka tests', () => {
  let security: KafkaSecurity
  let own: OwnKafka

  beforeAll(async () => {
    security = await KafkaSecurity.make()
    own = await startKafka({ security, proxied: 0 })
    await createTopic([own.node.broker], 'orders')
  })
  afterAll(() => own.remove())

  /** Sends a record there and back to where the broker says that its partition is. */
  async function sends(config: Omit<KafkaConfig, 'logLevel'>): Promise<void> {
    const kafka = new Kafka({ ...config, logLevel: logLevel.NOTHING, retry: { retries: 0 } })
    const producer = kafka.producer()
    try {
      await producer.connect()
      await producer.send({ topic: 'orders', messages: [{ value: 'x' }] })
    } finally {
      await producer.disconnect()
    }
  }

  function withSasl(sasl: SASLOptions): Promise<void> {
    const brokers = [own.node.secureBroker]
    return sends({ brokers, sasl, ssl: { ca: security.ca } })
  }

  it('take a user by PLAIN and SCRAM, and nobody else', async () => {
    for (const mechanism of ['plain', 'scram-sha-256', 'scram-sha-512'] as const) {
      await withSasl({ mechanism, ...security.user } as SASLOptions)
      const wrong = { mechanism, ...security.user, password: 'wrong' } as SASLOptions
      await expect(withSasl(wrong)).rejects.toThrow(/uthentication failed|Invalid username/)
    }
  })

  it('take a token of the right issuer until it ends', async () => {
    const bearer = (value: string): SASLOptions => ({
      mechanism: 'oauthbearer',
      oauthBearerProvider: () => Promise.resolve({ value }),
    })
    await withSasl(bearer(security.token()))
    await expect(withSasl(bearer(security.token(-600)))).rejects.toThrow('SASL')
    const stranger = await KafkaSecurity.make()
    await expect(withSasl(bearer(stranger.token()))).rejects.toThrow('SASL')
  })

  it('take a client with a certificate, and none without', async () => {
    const brokers = [own.node.mutualBroker]
    await sends({ brokers, ssl: { ca: security.ca, ...security.client } })
    await expect(sends({ brokers, ssl: { ca: security.ca } })).rejects.toThrow(/certificate|closed/)
  })

  it('are not believed by who does not know their authority', async () => {
    const { ca } = await KafkaSecurity.make()
    const brokers = [own.node.secureBroker]
    const sasl = { mechanism: 'plain', ...security.user } as const
    await expect(sends({ brokers, sasl, ssl: { ca } })).rejects.toThrow('certificate')
  })
})
