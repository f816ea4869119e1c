import { describe, expect, it } from 'vitest'

import {
  brokerText,
  isPassing,
  refusedMessage,
  refusedRequest,
  replyCodeOf,
} from '../../../adapters/rabbitmq/errors.ts'
import { mismatchOf } from '../../../adapters/rabbitmq/mismatch.ts'
import { HoldfastError } from '../../../src/contract/errors.ts'

/** What amqplib rejects with when the broker closes a channel over a request. */
function closed(code: number, name: string, text: string): Error {
  const said = `Operation failed: QueueDeclare; ${code} (${name}) with message "${text}"`
  return Object.assign(new Error(said), { code, classId: 50, methodId: 10 })
}

const missing = closed(404, 'NOT-FOUND', "NOT_FOUND - no exchange 'x' in vhost '/'")
const homeDown = closed(
  404,
  'NOT-FOUND',
  "NOT_FOUND - home node 'rabbit@two' of durable queue 'q' in vhost '/' is down or inaccessible",
)
const noLeader = closed(541, 'INTERNAL-ERROR', "INTERNAL_ERROR - leader of 'q' not available")

describe('errors of the broker', () => {
  it('are told by their code, also inside another error', () => {
    expect(replyCodeOf(missing)).toBe(404)
    expect(replyCodeOf(new HoldfastError('connection-lost', 'x', { cause: noLeader }))).toBe(541)
    expect(replyCodeOf(new Error('socket hang up'))).toBeNull()
    expect(replyCodeOf(Object.assign(new Error('x'), { code: 'ECONNRESET' }))).toBeNull()
    expect(replyCodeOf(null)).toBeNull()
    expect(brokerText(missing)).toBe("NOT_FOUND - no exchange 'x' in vhost '/'")
    expect(brokerText('bare')).toBe('bare')
  })

  it('pass when a node or a leader is away, and not when something is missing', () => {
    expect([missing, homeDown, noLeader].map(isPassing)).toEqual([false, true, true])
  })

  it.each<readonly [string, Error, string]>([
    ['missing', missing, 'topology'],
    ['a node that is down', homeDown, 'unavailable'],
    ['no leader', noLeader, 'unavailable'],
    ['no permission', closed(403, 'ACCESS-REFUSED', 'ACCESS_REFUSED - …'), 'rejected'],
    ['other arguments', closed(406, 'PRECONDITION-FAILED', 'PRECONDITION_FAILED - …'), 'rejected'],
    ['a lost socket', new Error('Channel ended, no reply will be forthcoming'), 'connection-lost'],
  ])('name a refused request: %s', (_, error, code) => {
    const named = refusedRequest('declaring queue "q"', error)
    expect(named).toMatchObject({ code, cause: error })
    expect(named.message).toMatch(/^declaring queue "q": /)
  })

  it.each<readonly [string, Error, string, string]>([
    ['missing', missing, 'UnroutableError', 'unroutable'],
    [
      'size',
      closed(
        406,
        'PRECONDITION-FAILED',
        'PRECONDITION_FAILED - message size 3 is larger than configured max size 2',
      ),
      'TooLargeError',
      'too-large',
    ],
    ['no permission', closed(403, 'ACCESS-REFUSED', '…'), 'PublishRefusedError', 'rejected'],
  ])('name a refused message: %s', (_, error, name, code) => {
    const facts = { topic: 't', messageId: 'm' }
    expect(refusedMessage(error, facts)).toMatchObject({ name, code, ...facts, retryable: false })
  })
})

describe('a 406', () => {
  it.each<readonly [string, string, readonly [string, string, string, boolean]]>([
    [
      'two values',
      "inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received '2000' but current is '1000'",
      ['message-ttl', '2000', '1000', true],
    ],
    [
      'a value that is not declared',
      "inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received none but current is the value '1000' of type 'short'",
      ['message-ttl', 'none', '1000', true],
    ],
    [
      'a value that is not there',
      "inequivalent arg 'x-dead-letter-routing-key' for queue 'o'q' in vhost 'a b': received the value 'z' of type 'longstr' but current is none",
      ['dead-letter-routing-key', 'z', 'none', true],
    ],
    [
      'an empty value',
      "inequivalent arg 'x-dead-letter-exchange' for queue 'q' in vhost '/': received the value '' of type 'longstr' but current is none",
      ['dead-letter-exchange', '', 'none', true],
    ],
    [
      'an attribute',
      "inequivalent arg 'auto_delete' for queue 'q' in vhost '/': received 'false' but current is 'true'",
      ['auto-delete', 'false', 'true', false],
    ],
    [
      'a type',
      "inequivalent arg 'type' for exchange 'x' in vhost '/': received 'topic' but current is 'direct'",
      ['type', 'topic', 'direct', false],
    ],
  ])('says what is different: %s', (_, text, [setting, declared, found, argumentsOnly]) => {
    const error = closed(406, 'PRECONDITION-FAILED', `PRECONDITION_FAILED - ${text}`)
    expect(mismatchOf(error)).toEqual({ setting, declared, found, argumentsOnly })
  })

  it('of another kind says nothing', () => {
    expect(mismatchOf(closed(406, 'PRECONDITION-FAILED', 'invalid arg'))).toBeNull()
    expect(mismatchOf(missing)).toBeNull()
  })
})
