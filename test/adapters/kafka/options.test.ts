import { describe, expect, it } from 'vitest'

import { resolveOptions, type KafkaOptions } from '../../../adapters/kafka/options.ts'
import type { OptionError } from '../../../src/contract/errors.ts'

const brokers = 'localhost:9092'
const client = { producer: () => 0, consumer: () => 0, admin: () => 0 }

function errorOf(options: unknown): OptionError {
  try {
    resolveOptions(options as KafkaOptions)
  } catch (error) {
    return error as OptionError
  }
  throw new Error('it was taken')
}

describe('the options of kafka', () => {
  it('have defaults, and are frozen', () => {
    const resolved = resolveOptions({ brokers })
    expect(resolved).toEqual({
      addresses: ['localhost:9092'],
      client: null,
      clientId: 'holdfast',
      prefix: '',
      driver: { producer: 'kafkajs', consumer: 'kafkajs' },
      tls: null,
      sasl: null,
      replication: null,
      minInsyncReplicas: null,
      sessionTimeoutMs: 10_000,
      rebalanceTimeoutMs: 60_000,
      connectTimeoutMs: 10_000,
      requestTimeoutMs: 30_000,
      producersPerLeader: 1,
      partitioner: 'java',
      frozenPartitionCount: new Map(),
      maxBodyBytes: null,
      compression: 'none',
      strict: false,
      map: new Map(),
    })
    expect(Object.isFrozen(resolved)).toBe(true)
    expect(Object.isFrozen(resolved.addresses)).toBe(true)
  })

  it.each<readonly [string, KafkaOptions, readonly string[]]>([
    ['a text', { brokers: 'a' }, ['a:9092']],
    ['a list', { brokers: ['a:1', 'b:2'] }, ['a:1', 'b:2']],
    ['a URL', { url: 'kafka://a:1,b' }, ['a:1', 'b:9092']],
    ['a URL of one that ends with a slash', { url: 'kafka://a:1/' }, ['a:1']],
    ['a list of URLs', { url: ['kafka://a:1', 'kafka://a:1', 'kafka://b:2'] }, ['a:1', 'b:2']],
    ['text with commas', { brokers: 'a:1, b:2' }, ['a:1', 'b:2']],
  ])('take addresses as %s', (_, options, addresses) => {
    expect(resolveOptions(options).addresses).toEqual(addresses)
  })

  it.each<readonly [string, unknown, RegExp]>([
    ['kafka', undefined, /at least \{ brokers/],
    ['kafka.broker', { broker: 'a' }, /brokers, url, client/],
    ['brokers', {}, /one of brokers: .* url: .* client/],
    ['brokers', { brokers, url: 'kafka://a' }, /got "2 of them"/],
    ['brokers', { brokers: [] }, /at least one/],
    ['brokers', { brokers: 7 }, /got 7/],
    ['brokers', { brokers: 'a:0' }, /got "a:0"/],
    ['brokers', { brokers: 'a:99999' }, /host:port/],
    ['brokers', { brokers: '[::1]:9092' }, /instead of an IPv6 address/],
    ['brokers', { brokers: 'a:1,' }, /got ""/],
    ['url', { url: 'amqp://localhost' }, /encryption is the option tls/],
    ['url', { url: 'kafkas://localhost' }, /encryption is the option tls/],
    ['client', { client: {} }, /a Kafka object of kafkajs/],
    ['client', { client, driver: 'platformatic' }, /unless the driver is 'kafkajs'/],
    ['tls', { client, tls: true }, /nothing beside client/],
    ['clientId', { client, clientId: 'a' }, /nothing beside client/],
    ['clientId', { brokers, clientId: '' }, /1 to 200/],
    ['prefix', { brokers, prefix: 'a b' }, /A-Z/],
    ['driver', { brokers, driver: 'rdkafka' }, /'kafkajs', 'platformatic'/],
    ['driver.producer', { brokers, driver: { producer: 'x' } }, /'kafkajs', 'platformatic'/],
    ['driver.both', { brokers, driver: { both: 'kafkajs' } }, /producer, consumer/],
    ['tls', { brokers, tls: 'ca' }, /rejectUnauthorized/],
    ['tls.caFile', { brokers, tls: { caFile: 'x' } }, /ca, cert, key/],
    ['tls.key', { brokers, tls: { cert: 'x' } }, /cert and key together/],
    ['sasl', { brokers, sasl: 'plain' }, /an object/],
    ['sasl.mechanism', { brokers, sasl: { username: 'a' } }, /'plain', 'scram-sha-256'/],
    ['sasl.mechanism', { brokers, sasl: { mechanism: 'aws' } }, /'oauthbearer'/],
    ['sasl.username', { brokers, sasl: { mechanism: 'plain', password: 'x' } }, /a text/],
    ['sasl.password', { brokers, sasl: { mechanism: 'plain', username: 'x' } }, /a text/],
    ['sasl.token', { brokers, sasl: { mechanism: 'oauthbearer', token: 'x' } }, /a function/],
    [
      'sasl.username',
      { brokers, sasl: { mechanism: 'oauthbearer', username: 'x', token: () => 'y' } },
      /mechanism, token/,
    ],
    ['replication', { brokers, replication: 0 }, /1 to 32767/],
    ['minInsyncReplicas', { brokers, replication: 3, minInsyncReplicas: 3 }, /less than replica/],
    ['sessionTimeoutMs', { brokers, sessionTimeoutMs: 10 }, /1000 to/],
    ['rebalanceTimeoutMs', { brokers, rebalanceTimeoutMs: 10 }, /1000 to/],
    ['connectTimeoutMs', { brokers, connectTimeoutMs: 1 }, /100 to/],
    ['requestTimeoutMs', { brokers, requestTimeoutMs: 1 }, /1000 to/],
    ['producersPerLeader', { brokers, producersPerLeader: 17 }, /1 to 16/],
    ['partitioner', { brokers, partitioner: 'murmur' }, /'java', 'legacy'/],
    ['frozenPartitionCount', { brokers, frozenPartitionCount: 6 }, /\[topic\]/],
    ['frozenPartitionCount.a', { brokers, frozenPartitionCount: { a: 0 } }, /1 to 10000/],
    ['maxBodyBytes', { brokers, maxBodyBytes: 0 }, /1 to/],
    ['compression', { brokers, compression: 'brotli' }, /'zstd'/],
    ['strict', { brokers, strict: 'yes' }, /true or false/],
    ['map', { brokers, map: [] }, /an object/],
    ['map.a', { brokers, map: { a: 'b' } }, /an object/],
    ['map.a.name', { brokers, map: { a: { name: 'b' } } }, /topic, groups/],
    ['map.a.topic', { brokers, map: { a: { topic: 'b c' } } }, /name of a Kafka topic/],
    ['map.a.groups.g.groupId', { brokers, map: { a: { groups: { g: {} } } } }, /1 to 249 bytes/],
  ])('refuse what is wrong with %s', (option, given, allowed) => {
    const error = errorOf(given)
    expect(error.name).toBe('OptionError')
    expect(error.option).toBe(option)
    expect(error.message).toMatch(allowed)
  })

  it.each([
    { url: 'kafka://user:secret@localhost:9092' },
    { brokers: 'user:secret@localhost:9092' },
    { brokers, sasl: { mechanism: 'plain', username: 'a', password: Buffer.from('secret') } },
    { brokers, sasl: { mechanism: 'oauthbearer', token: 'secret' } },
  ])('show no password of a wrong one', (given) => {
    expect(errorOf(given).message).not.toMatch(/secret/)
  })

  it('keep what is given of log-in, client and mapping', () => {
    const token = async () => 'token'
    const map = { orders: { topic: 'legacy', groups: { billing: { groupId: 'old billing' } } } }
    const resolved = resolveOptions({
      brokers,
      tls: true,
      sasl: { mechanism: 'oauthbearer', token },
      map,
      driver: { producer: 'platformatic', consumer: 'kafkajs' },
    })
    expect(resolved.tls).toEqual({})
    expect(resolved.sasl).toEqual({ mechanism: 'oauthbearer', token })
    expect(resolved.map).toEqual(new Map([['orders', map.orders]]))
    expect(resolved.driver).toEqual({ producer: 'platformatic', consumer: 'kafkajs' })
    expect(resolveOptions({ client }).client).toBe(client)
  })
})
