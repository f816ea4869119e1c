import { describe, expect, it } from 'vitest'

import { HoldfastError } from '../../src/contract/errors.ts'
import { resolvePublisherOptions, type PublisherOptions } from '../../src/publish/options.ts'
import { resolveRelayOptions, type RelayOptions } from '../../src/publish/relay-options.ts'
import { ScriptedBroker } from '../support/scripted-broker.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const broker = new ScriptedBroker(new VirtualClock())
const outbox = { append: () => undefined, lease: () => undefined } as never

describe('options of a publisher', () => {
  it('are filled in once and frozen; what was given stays as it is', () => {
    const given = { broker, topics: { orders: { groups: ['a'] } }, buffer: { messages: 5 } }
    const copy = structuredClone({ topics: given.topics, buffer: given.buffer })
    const resolved = resolvePublisherOptions(given)
    expect({ topics: given.topics, buffer: given.buffer }).toEqual(copy)
    expect([Object.isFrozen(resolved), Object.isFrozen(resolved.buffer)]).toEqual([true, true])
    expect(resolved).toMatchObject({
      source: 'holdfast',
      deadlineMs: 30_000,
      topology: 'create',
      divert: false,
      outbox: null,
      buffer: { messages: 5, bytes: 67_108_864, whenFull: 'wait', waitMs: 5_000 },
      retry: { attempts: Infinity },
      breaker: { volumeThreshold: 20 },
    })
  })

  it.each<[unknown, string]>([
    [undefined, 'ReliablePublisher: got undefined; allowed: an object'],
    [{}, 'broker: got undefined; allowed: a broker, such as memory() or sqlite({ … })'],
    [{ broker: {} }, 'broker: got an object'],
    [
      { broker, brokr: 1 },
      'ReliablePublisher.brokr: got 1; allowed: no option of that name, only: broker, topics',
    ],
    [{ broker, outbox: {} }, 'outbox: got an object; allowed: an outbox store'],
    [{ broker, divert: true }, 'divert: got true; allowed: false without an outbox'],
    [{ broker, outbox, divert: 'yes' }, 'divert: got "yes"; allowed: true, false'],
    [{ broker, deadlineMs: 0 }, 'deadlineMs: got 0; allowed: a whole number, 1 or more'],
    [{ broker, source: '' }, 'source: got ""; allowed: a text that is not empty'],
    [{ broker, buffer: 5 }, 'buffer: got 5; allowed: an object'],
    [{ broker, buffer: { messages: 0 } }, 'buffer.messages: got 0; allowed: a whole number, 1'],
    [{ broker, buffer: { bytes: 1.5 } }, 'buffer.bytes: got 1.5'],
    [
      { broker, buffer: { whenFull: 'drop' } },
      `buffer.whenFull: got "drop"; allowed: 'wait', 'fail'`,
    ],
    [
      { broker, buffer: { waitMs: -1 } },
      'buffer.waitMs: got -1; allowed: a whole number, 0 or more',
    ],
    [
      { broker, buffer: { size: 1 } },
      'buffer.size: got 1; allowed: no option of that name, only: messages, bytes',
    ],
    [{ broker, topology: 'auto' }, `topology: got "auto"; allowed: 'create', 'verify', 'none'`],
    [{ broker, topics: { 'a b': {} } }, 'topic name "a b": allowed are'],
    [{ broker, topics: { a: null } }, 'topics.a: got null; allowed: an object'],
    [{ broker, topics: { a: { groups: 'x' } } }, 'topics.a.groups: got "x"; allowed: a list'],
    [{ broker, topics: { a: { groups: ['dead'] } } }, 'group name "dead": allowed are'],
    [{ broker, topics: { a: { partitions: 0 } } }, 'topics.a.partitions: got 0'],
    [{ broker, topics: { a: { retryLevelsMs: [0] } } }, 'topics.a.retryLevelsMs: got 0'],
    [{ broker, topics: { a: { group: 'x' } } }, 'topics.a.group: got "x"'],
    [{ broker, breaker: { resetMs: 0 } }, 'breaker.resetMs: got 0'],
    [{ broker, retry: { attempts: 0 } }, 'retry.attempts: got 0'],
    [{ broker, on: 'me' }, 'on: got "me"; allowed: a function'],
    [{ broker, topics: null }, 'topics: got null; allowed: an object'],
    [{ broker, breaker: null }, 'breaker: got null; allowed: an object'],
    [{ broker, retry: null }, 'retry: got null; allowed: an object'],
    [{ broker, logging: null }, 'logging: got null'],
    [{ broker, clock: 5 }, 'clock: got 5; allowed: a Clock'],
    [{ broker, random: {} }, 'random: got an object; allowed: a Random'],
    [{ broker, crash: 5 }, 'crash: got 5; allowed: CrashPoints'],
    [{ broker, outbox: 5 }, 'outbox: got 5; allowed: an outbox store'],
    [{ broker, traceparent: 'x' }, 'traceparent: got "x"; allowed: a function'],
    [
      { broker, logging: 'loud' },
      `logging: got "loud"; allowed: 'silent' or an object with warn(line)`,
    ],
  ])('refuses %o', (given, text) => {
    const call = (): unknown => resolvePublisherOptions(given as PublisherOptions<unknown>)
    expect(call).toThrow(HoldfastError)
    expect(call).toThrow(text)
  })
})

describe('options of a relay', () => {
  it('have defaults', () => {
    expect(resolveRelayOptions({ broker, outbox })).toMatchObject({
      batchSize: 500,
      inFlight: 5_000,
      leaseMs: 15_000,
      pollMs: 250,
      attempts: 5,
      onPoison: 'park-and-continue',
      sendTimeoutMs: 60_000,
    })
    expect(resolveRelayOptions({ broker, outbox, inFlight: 10 }).batchSize).toBe(10)
  })

  it.each<[unknown, string]>([
    [null, 'OutboxRelay: got null; allowed: an object'],
    [{ broker }, 'outbox: got undefined; allowed: an outbox store'],
    [{ outbox }, 'broker: got undefined; allowed: a broker'],
    [{ broker, outbox, inFlight: 0 }, 'inFlight: got 0'],
    [
      { broker, outbox, inFlight: 5, batchSize: 6 },
      'batchSize: got 6; allowed: a whole number, 1 to 5',
    ],
    [{ broker, outbox, leaseMs: 50 }, 'leaseMs: got 50; allowed: a whole number, 100 or more'],
    [{ broker, outbox, pollMs: 0 }, 'pollMs: got 0'],
    [{ broker, outbox, attempts: 0 }, 'attempts: got 0'],
    [{ broker, outbox, backoff: {} }, 'backoff: got an object'],
    [
      { broker, outbox, onPoison: 'drop' },
      `onPoison: got "drop"; allowed: 'park-and-continue', 'block-key'`,
    ],
    [{ broker, outbox, sendTimeoutMs: 1 }, 'sendTimeoutMs: got 1'],
    [{ broker, outbox, batch: 1 }, 'OutboxRelay.batch: got 1'],
  ])('refuses %o', (given, text) => {
    const call = (): unknown => resolveRelayOptions(given as RelayOptions<unknown>)
    expect(call).toThrow(HoldfastError)
    expect(call).toThrow(text)
  })
})
