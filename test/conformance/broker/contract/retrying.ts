import assert from 'node:assert/strict'

import { ownHeaders } from '../../../../src/contract/headers.ts'
import type { Envelope } from '../../../../src/contract/message.ts'
import type { Case, Need } from '../../case.ts'
import type { Connection } from '../connection.ts'
import { draft, text } from '../envelopes.ts'
import type { BrokerHarness } from '../harness.ts'
import type { Listener, Received } from '../listener.ts'
import { capability, delayedRetry, inspector, nativeRetry, retryLevels } from '../needs.ts'
import { brokerCase, type Stage } from '../stage.ts'
import { bigBody, bodies, essence, hostileHeaders, takesMebibyte } from './carrying.ts'

/** Brokers count in whole milliseconds of a wall clock, the cases on a monotonic one. */
const ROUNDING_MS = 2

/**
 * Sends a delivery back to its group after `delayMs`, the way the core does: natively where the broker
 * can wait that long, or as a confirmed copy to the retry destination and an ack after it.
 */
async function retry(
  connection: Connection,
  listener: Listener,
  received: Received,
  delayMs: number,
): Promise<void> {
  if (connection.capabilities.retryDelay === 'native') {
    if (received.delivery.retry?.(delayMs) === true) {
      listener.held.delete(received)
      return
    }
  }
  const { topic } = received.envelope.to as { topic: string }
  await connection.confirmed([again(received, topic, delayMs)], 'settle')
  listener.ack(received)
}

function again({ envelope, attempt }: Received, topic: string, delayMs: number): Envelope {
  const headers = envelope.headers.filter(([name]) => name !== ownHeaders.attempt)
  return {
    ...envelope,
    to: { kind: 'group', topic, group: 'a', delayMs },
    headers: [...headers, [ownHeaders.attempt, String(attempt)]],
  }
}

/** A topic with the short retry level, one message held by a listener. */
async function firstOf(
  stage: Stage,
  envelope: (topic: string) => Envelope,
): Promise<{ topic: string; connection: Connection; listener: Listener }> {
  const connection = await stage.connect()
  const levels = [stage.shortRetryMs, stage.shortRetryMs * 3]
  const topic = await stage.topic(connection, { retryLevelsMs: levels })
  const listener = await connection.listen(topic)
  await connection.confirmed([envelope(topic)])
  await nth(stage, listener, 1)
  return { topic, connection, listener }
}

async function nth(stage: Stage, listener: Listener, count: number): Promise<Received> {
  await stage.eventually(
    () => `${listener.received.length} of ${count} deliveries came`,
    () => listener.received.length >= count,
  )
  return listener.received[count - 1]!
}

const countsAttempts: Need<BrokerHarness> = capability(
  "attemptCount 'broker' or 'header'",
  (has) => has.attemptCount !== 'none',
)

/** Whatever came back from a retry is what was sent, `holdfast-` headers aside. */
function survivesRetry(
  name: string,
  needs: readonly Need<BrokerHarness>[],
  make: (topic: string) => Envelope,
): Case<BrokerHarness> {
  return brokerCase(`keeps through a retry: ${name}`, [delayedRetry, ...needs], async (stage) => {
    const { connection, listener } = await firstOf(stage, make)
    const first = listener.received[0]!
    await retry(connection, listener, first, stage.shortRetryMs)
    const second = await nth(stage, listener, 2)
    assert.deepEqual(essence(second.envelope), essence(first.envelope))
    assert.deepEqual(second.envelope.orderKey, first.envelope.orderKey)
  })
}

/** What is sent to a dead-letter destination can be read there as it was. */
function survivesDeath(
  name: string,
  needs: readonly Need<BrokerHarness>[],
  make: (topic: string) => Envelope,
): Case<BrokerHarness> {
  return brokerCase(`keeps as a dead letter: ${name}`, [inspector, ...needs], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const to = { kind: 'dead', topic, group: 'a' } as const
    const sent: Envelope = { ...make(topic), to }
    await connection.confirmed([sent], 'settle')
    const { inspect } = connection.broker
    assert.ok(inspect)
    assert.equal(await inspect.depth(to), 1)
    const [found] = await inspect.browse(to, 10)
    assert.deepEqual(found && essence(found), essence(sent))
    assert.equal(await inspect.depth(to), 1, 'browsing leaves it there')
  })
}

const tombstones = capability('tombstones', (has) => has.tombstones)

const contents: readonly (readonly [
  name: string,
  needs: readonly Need<BrokerHarness>[],
  make: (topic: string) => Envelope,
])[] = [
  ['headers of every kind', [], (topic) => draft(topic, { headers: hostileHeaders, key: 'k' })],
  ...bodies.map(
    ([name, body]) =>
      [
        `a body: ${name}`,
        body === null ? [tombstones] : [],
        (topic: string) => draft(topic, { body }),
      ] as const,
  ),
  ['a body of 1 MiB', [takesMebibyte], (topic) => draft(topic, { body: bigBody() })],
]

/** A long retry, then a short one of another message; in time: there was time for the short one. */
async function shortAfterLong(
  stage: Stage,
): Promise<{ readonly bodies: readonly string[]; readonly inTime: boolean }> {
  const { topic, connection, listener } = await firstOf(stage, (name) =>
    draft(name, { body: 'long' }),
  )
  const longMs = stage.shortRetryMs * 3
  const askedAt = stage.clock.now()
  await retry(connection, listener, listener.received[0]!, longMs)
  await connection.confirmed([draft(topic, { body: 'short' })])
  await retry(connection, listener, await nth(stage, listener, 2), stage.shortRetryMs)
  const inTime = stage.clock.now() - askedAt < longMs - stage.shortRetryMs * 1.5
  await nth(stage, listener, 4)
  return { bodies: listener.bodies, inTime }
}

/** Retries and dead letters: later, counted, and unchanged. */
export const retryingCases: readonly Case<BrokerHarness>[] = [
  brokerCase('never delivers a retry early', [delayedRetry], async (stage) => {
    const { connection, listener } = await firstOf(stage, (topic) => draft(topic))
    for (let n = 1; n <= 3; n++) {
      const received = await nth(stage, listener, n)
      const askedAt = stage.clock.now()
      await retry(connection, listener, received, stage.shortRetryMs)
      const waited = (await nth(stage, listener, n + 1)).atMs - askedAt
      const early = stage.shortRetryMs - waited
      assert.ok(early <= ROUNDING_MS, `retry ${n} came ${early} ms early`)
    }
  }),

  brokerCase('does not make a short retry wait for a long one', [delayedRetry], async (stage) => {
    // On a machine so busy that the long delay was over before the short one began, order says nothing.
    for (let tries = 5; ; tries--) {
      const { bodies, inTime } = await shortAfterLong(stage)
      assert.deepEqual(bodies.toSorted(), ['long', 'long', 'short', 'short'])
      if (inTime) return assert.deepEqual(bodies, ['long', 'short', 'short', 'long'])
      assert.ok(tries > 1, 'the machine was too busy to tell, five times')
    }
  }),

  brokerCase(
    'counts attempts from 1, one per retry',
    [countsAttempts, delayedRetry],
    async (stage) => {
      const { connection, listener } = await firstOf(stage, (topic) => draft(topic))
      const attempts: number[] = []
      for (let n = 1; n <= 4; n++) {
        const received = await nth(stage, listener, n)
        attempts.push(received.attempt)
        if (n < 4) await retry(connection, listener, received, stage.shortRetryMs)
      }
      assert.deepEqual(attempts, [1, 2, 3, 4])
    },
  ),

  brokerCase(
    'keeps the count when a retried delivery is released',
    [countsAttempts, delayedRetry],
    async (stage) => {
      const { topic, connection, listener } = await firstOf(stage, (name) => draft(name))
      await retry(connection, listener, listener.received[0]!, stage.shortRetryMs)
      const second = await nth(stage, listener, 2)
      listener.settle(second, (delivery) => delivery.release())
      await listener.receiver.flush(stage.deadline())
      await connection.close()
      const taker = await (await stage.connect()).listen(topic)
      assert.equal((await nth(stage, taker, 1)).attempt, 2)
    },
  ),

  brokerCase('reads the attempts made from the header', [headerCount()], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const listener = await connection.listen(topic)
    const to = { kind: 'group', topic, group: 'a', delayMs: 0 } as const
    const headers = [[ownHeaders.attempt, '6']] as const
    await connection.confirmed([draft(topic, { to, headers })], 'settle')
    assert.equal((await nth(stage, listener, 1)).attempt, 7)
  }),

  brokerCase('does not lose a retry when its consumer goes', [delayedRetry], async (stage) => {
    const { topic, connection, listener } = await firstOf(stage, (name) =>
      draft(name, { body: 'x' }),
    )
    await retry(connection, listener, listener.received[0]!, stage.shortRetryMs)
    await listener.receiver.flush(stage.deadline())
    await connection.close()
    const taker = await (await stage.connect()).listen(topic)
    assert.equal(text((await nth(stage, taker, 1)).envelope), 'x')
  }),

  brokerCase(
    'delivers from a retry level that is no longer configured',
    [retryLevels],
    async (stage) => {
      const before = await stage.connect()
      const topic = await stage.topic(before, { retryLevelsMs: [stage.shortRetryMs] })
      const to = { kind: 'group', topic, group: 'a', delayMs: stage.shortRetryMs } as const
      await before.confirmed([draft(topic, { to, body: 'old level' })], 'settle')
      await before.close()
      const after = await stage.connect()
      await after.declare({ name: topic, retryLevelsMs: [] })
      const listener = await after.listen(topic)
      assert.equal(text((await nth(stage, listener, 1)).envelope), 'old level')
    },
  ),

  brokerCase('offers retry() exactly where it is native', [], async (stage) => {
    const { connection, listener } = await firstOf(stage, (topic) => draft(topic))
    const offered = listener.received[0]!.delivery.retry !== undefined
    assert.equal(offered, connection.capabilities.retryDelay === 'native')
  }),

  brokerCase('retries with no delay at once', [nativeRetry], async (stage) => {
    const { connection, listener } = await firstOf(stage, (topic) => draft(topic))
    await retry(connection, listener, listener.received[0]!, 0)
    assert.equal((await nth(stage, listener, 2)).redelivered === 'no', false)
  }),

  ...contents.map(([name, needs, make]) => survivesRetry(name, needs, make)),
  ...contents.map(([name, needs, make]) => survivesDeath(name, needs, make)),
]

function headerCount(): Need<BrokerHarness> {
  return capability("attemptCount 'header'", (has) => has.attemptCount === 'header')
}
