import { describe, expect, it } from 'vitest'

import { rabbitmq } from '../../../adapters/rabbitmq/index.ts'
import { resolveOptions, type RabbitmqOptions } from '../../../adapters/rabbitmq/options.ts'
import type { OptionError } from '../../../src/contract/errors.ts'

const url = 'amqp://localhost'

function errorOf(options: unknown): OptionError {
  try {
    rabbitmq(options as RabbitmqOptions)
  } catch (error) {
    return error as OptionError
  }
  throw new Error('it was taken')
}

describe('the options of rabbitmq', () => {
  it('have defaults, and are frozen', () => {
    const resolved = resolveOptions({ url })
    expect(resolved).toEqual({
      urls: [url],
      credentials: null,
      tls: null,
      heartbeatS: 15,
      connectTimeoutMs: 10_000,
      rpcTimeoutMs: 10_000,
      confirmTimeoutMs: 30_000,
      window: 1_000,
      maxBodyBytes: 16_777_216,
      prefix: '',
      managementUrl: null,
      connectionName: 'holdfast',
      queueType: 'quorum',
      deliveryLimit: 20,
      consumerTimeoutMs: 1_800_000,
      nativeRetry: null,
      allowDropOnLimit: false,
      map: new Map(),
    })
    expect(Object.isFrozen(resolved)).toBe(true)
    expect(Object.isFrozen(resolved.urls)).toBe(true)
  })

  it.each<readonly [string, unknown, RegExp]>([
    ['rabbitmq', undefined, /at least \{ url/],
    ['rabbitmq.urls', { urls: [url] }, /url, credentials, tls/],
    ['url', {}, /amqp:\/\/host:5672/],
    ['url', { url: [] }, /at least one/],
    ['url', { url: 'http://localhost' }, /amqps/],
    ['url', { url: 'localhost:5672' }, /amqps/],
    ['url', { url: `${url}?heartbeat=30` }, /heartbeatS, connectTimeoutMs and tls are options/],
    ['url', { url: [url, 7] }, /got 7/],
    ['credentials', { url, credentials: { username: 'a' } }, /a function that returns a promise/],
    ['tls', { url, tls: 'ca' }, /servername/],
    ['heartbeatS', { url, heartbeatS: 0 }, /5 to 3600/],
    ['window', { url, window: 2_000 }, /1 to 1000/],
    ['confirmTimeoutMs', { url, confirmTimeoutMs: 1 }, /100 to/],
    ['maxBodyBytes', { url, maxBodyBytes: 0 }, /1 to/],
    ['prefix', { url, prefix: 'a b' }, /A-Z/],
    ['prefix', { url, prefix: 'amq.' }, /not starting with "amq\."/],
    ['managementUrl', { url, managementUrl: 'amqp://x' }, /http:\/\/host:15672/],
    ['connectionName', { url, connectionName: '' }, /1 to 200/],
    ['queueType', { url, queueType: 'stream' }, /'quorum', 'classic'/],
    ['deliveryLimit', { url, deliveryLimit: 0 }, /1 to/],
    ['consumerTimeoutMs', { url, consumerTimeoutMs: 1_000 }, /120000 to/],
    ['nativeRetry', { url, nativeRetry: true }, /\{ minMs, maxMs \}/],
    ['nativeRetry.maxMs', { url, nativeRetry: { minMs: 5, maxMs: 1 } }, /5 to/],
    [
      'nativeRetry',
      { url, queueType: 'classic', nativeRetry: { minMs: 1, maxMs: 1 } },
      /false with queueType 'classic'/,
    ],
    ['allowDropOnLimit', { url, allowDropOnLimit: 1 }, /true or false/],
    ['map', { url, map: [] }, /\[topic\]/],
    ['map.orders.queue', { url, map: { orders: { queue: 'q' } } }, /exchange, routingKey, groups/],
    ['map.orders.exchange', { url, map: { orders: { exchange: 'x'.repeat(256) } } }, /0 to 255/],
    ['map.orders.routingKey', { url, map: { orders: { exchange: '' } } }, /default exchange/],
    ['map.orders.groups.a', { url, map: { orders: { groups: { a: 'q' } } } }, /queue/],
    ['map.orders.groups.a.queue', { url, map: { orders: { groups: { a: {} } } } }, /1 to 255/],
  ])('refuse a wrong %s: %j', (option, given, text) => {
    const error = errorOf(given)
    expect(error).toMatchObject({ name: 'OptionError', code: 'option', option })
    expect(error.message).toMatch(text)
  })

  it('never show a password', () => {
    const secret = 'amqp://user:hunter2@host'
    for (const given of [
      { url: `${secret}?a=b` },
      { url: 'http://user:hunter2@host' },
      { url: 'amqp://user:hunt/er2@host?x' },
      { url, managementUrl: 'ftp://user:hunter2@host' },
    ]) {
      const { message } = errorOf(given)
      expect(message).not.toMatch(/hunt/)
    }
  })

  it('take several nodes, a prefix, and the management URL without its last slash', () => {
    const resolved = resolveOptions({
      url: ['amqps://a', 'amqps://b'],
      prefix: 'dev.',
      managementUrl: 'http://localhost:15672/',
    })
    expect(resolved).toMatchObject({
      urls: ['amqps://a', 'amqps://b'],
      prefix: 'dev.',
      managementUrl: 'http://localhost:15672',
    })
  })
})
