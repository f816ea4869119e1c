import assert from 'node:assert/strict'

import type { SendOutcome } from '../../../../src/contract/broker.ts'
import {
  OutcomeUnknownError,
  PublishRefusedError,
  TooLargeError,
  UnroutableError,
} from '../../../../src/contract/errors.ts'
import type { Case } from '../../case.ts'
import { ackAtOnce, assertConfirmed, type Connection } from '../connection.ts'
import { draft, run } from '../envelopes.ts'
import type { BrokerHarness } from '../harness.ts'
import { capability, fault } from '../needs.ts'
import { brokerCase, type Stage } from '../stage.ts'

/** Everything stored for group `a`, read up to a marker that is sent now. */
async function stored(
  stage: Stage,
  connection: Connection,
  topic: string,
): Promise<readonly string[]> {
  const listener = await connection.listen(topic, { onReceived: ackAtOnce })
  await connection.confirmed([draft(topic, { body: 'marker' })])
  await stage.eventually(
    () => 'the marker did not arrive',
    () => listener.bodies.includes('marker'),
  )
  await stage.still(() => listener.received.length)
  return listener.bodies.filter((body) => body !== 'marker')
}

function assertRefused(outcome: SendOutcome | undefined): asserts outcome is SendOutcome & {
  status: 'refused'
} {
  assert.equal(outcome?.status, 'refused')
  assert.ok((outcome as { error: unknown }).error instanceof PublishRefusedError)
}

function assertUnknown(outcome: SendOutcome | undefined): void {
  assert.equal(outcome?.status, 'unknown')
  assert.ok((outcome as { error: unknown }).error instanceof OutcomeUnknownError)
}

/** Short enough to pass in a test, for what is not written in it. */
const SHORT_BUDGET_MS = 150

/** Long enough for a healthy broker to store it; where nothing tells of the loss, the case lasts as long. */
function answerBudgetMs({ limitMs }: Stage): number {
  return limitMs / 10
}

/** The three outcomes: confirmed, refused for certain, unknown. */
export const refusingCases: readonly Case<BrokerHarness>[] = [
  brokerCase('reports every envelope once, never before send() returns', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const sends = Array.from({ length: 20 }, (_, n) =>
      connection.start(run(topic, n % 2 === 0 ? null : `k${n}`, n % 2 === 0 ? 13 : 1)),
    )
    assert.ok(sends.every((one) => one.open === one.outcomes.length))
    await stage.eventually(
      () => 'some envelopes have no outcome',
      () => sends.every((one) => one.open === 0),
    )
    for (const { outcomes } of sends) for (const one of outcomes) assertConfirmed(one!)
  }),

  brokerCase('refuses what reaches no destination', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const [lost, kept] = await connection.outcomes([
      draft(stage.topicName(), { body: 'to nobody' }),
      draft(topic, { body: 'to somebody' }),
    ])
    assertRefused(lost)
    assert.ok(lost.error instanceof UnroutableError, String(lost.error))
    assertConfirmed(kept!)
  }),

  brokerCase('refuses what is too large, and nothing else', [bodyLimit()], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const { maxBodyBytes } = connection.capabilities.limits(topic)
    const body = new Uint8Array(maxBodyBytes + 1)
    const outcomes = await connection.outcomes([
      draft(topic, { body: 'before' }),
      draft(topic, { body }),
      draft(topic, { body: 'after' }),
    ])
    assertConfirmed(outcomes[0]!)
    assertConfirmed(outcomes[2]!)
    const refused = outcomes[1]
    assertRefused(refused)
    assert.ok(refused.error instanceof TooLargeError, String(refused.error))
    assert.equal(refused.error.retryable, false)
    assert.match(refused.error.message, new RegExp(String(maxBodyBytes)))
    assert.deepEqual(await stored(stage, connection, topic), ['before', 'after'])
  }),

  brokerCase(
    'refuses what was never written by the deadline',
    [fault('neverWrite')],
    async (stage) => {
      const connection = await stage.connect()
      const topic = await stage.topic(connection)
      const heal = await stage.fault('neverWrite')(topic)
      stage.afterwards(heal)
      const sentAt = stage.clock.now()
      const outcomes = await connection.outcomes(run(topic, null, 3), SHORT_BUDGET_MS)
      assert.ok(stage.clock.now() - sentAt >= SHORT_BUDGET_MS - 1, 'given up before the deadline')
      for (const outcome of outcomes) {
        assertRefused(outcome)
        assert.equal(outcome.error.code, 'not-sent')
      }
      await heal()
      assert.deepEqual(await stored(stage, connection, topic), [])
    },
  ),

  brokerCase('refuses an envelope whose deadline has passed', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const [outcome] = await connection.outcomes([draft(topic)], -1_000)
    assertRefused(outcome)
    assert.equal(outcome.error.code, 'not-sent')
    assert.deepEqual(await stored(stage, connection, topic), [])
  }),

  brokerCase(
    'calls it unknown when the word about a stored message is lost',
    [fault('loseConfirm')],
    async (stage) => {
      const connection = await stage.connect()
      const topic = await stage.topic(connection)
      await stage.fault('loseConfirm')(topic, 1)
      const [outcome] = await connection.outcomes(
        [draft(topic, { body: 'stored' })],
        answerBudgetMs(stage),
      )
      assertUnknown(outcome)
      assert.deepEqual(await stored(stage, connection, topic), ['stored'])
    },
  ),

  brokerCase(
    'stores an envelope sent again after an unknown under its own id',
    [fault('loseConfirm')],
    async (stage) => {
      const connection = await stage.connect()
      const topic = await stage.topic(connection)
      const listener = await connection.listen(topic, { onReceived: ackAtOnce })
      const envelope = draft(topic)
      await stage.fault('loseConfirm')(topic, 1)
      assertUnknown((await connection.outcomes([envelope], answerBudgetMs(stage)))[0])
      await connection.confirmed([envelope])
      await stage.eventually(
        () => 'it did not arrive',
        () => listener.received.length >= 1,
      )
      await stage.still(() => listener.received.length)
      for (const one of listener.received) assert.equal(one.envelope.id, envelope.id)
    },
  ),

  brokerCase(
    'does not let one stalled destination delay 255 others',
    [fault('stall')],
    async (stage) => {
      const connection = await stage.connect()
      const stalled = await stage.topic(connection)
      const topics = await Promise.all(Array.from({ length: 15 }, () => stage.topic(connection)))
      const heal = await stage.fault('stall')(stalled)
      stage.afterwards(heal)
      const others = topics.flatMap((topic) => run(topic, null, 17))
      const watch = connection.start([draft(stalled), ...others])
      await stage.eventually(
        () => `${watch.open - 1} of ${others.length} others wait for the stalled one`,
        () => watch.open === 1,
      )
      assert.equal(watch.outcomes[0], undefined)
      for (const outcome of watch.outcomes.slice(1)) assertConfirmed(outcome!)
      await heal()
      await stage.eventually(
        () => 'the stalled envelope has no outcome after healing',
        () => watch.open === 0,
      )
    },
  ),

  brokerCase(
    'does not let a flood of publishes hold up settling',
    [fault('stall')],
    async (stage) => {
      const connection = await stage.connect()
      const stalled = await stage.topic(connection)
      const topic = await stage.topic(connection)
      const heal = await stage.fault('stall')(stalled)
      stage.afterwards(heal)
      const flood = connection.start(run(stalled, null, 2_000))
      const to = { kind: 'dead', topic, group: 'a' } as const
      await connection.confirmed([draft(topic, { to })], 'settle')
      assert.equal(flood.open, 2_000)
    },
  ),

  brokerCase('answers for everything before close() of a sender resolves', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const watch = connection.start(run(topic, null, 300))
    const sender = connection.sender()
    await stage.within('close()', sender.close(stage.deadline()))
    watch.senderClosed()
    assert.equal(watch.open, 0)
    await stage.within('the second close()', sender.close(stage.deadline()))
    const outcomes = watch.outcomes.map((one) => one?.status)
    const reader = await stage.connect()
    const listener = await reader.listen(topic, { onReceived: ackAtOnce })
    const confirmed = outcomes.filter((one) => one === 'confirmed').length
    await stage.eventually(
      () => `${listener.received.length} of ${confirmed} confirmed ones arrived`,
      () => listener.received.length >= confirmed,
    )
    const refused = outcomes.filter((one) => one === 'refused').length
    await stage.still(() => listener.received.length)
    assert.ok(listener.received.length <= 300 - refused, 'a refused message was stored')
  }),

  brokerCase('refuses at close what it never wrote', [fault('neverWrite')], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const heal = await stage.fault('neverWrite')(topic)
    stage.afterwards(heal)
    const watch = connection.start(run(topic, null, 5))
    await stage.within('close()', connection.sender().close(stage.deadline(SHORT_BUDGET_MS)))
    watch.senderClosed()
    for (const outcome of watch.outcomes) {
      assertRefused(outcome)
      assert.equal(outcome.error.code, 'not-sent')
    }
    await heal()
    assert.deepEqual(await stored(stage, await stage.connect(), topic), [])
  }),
]

function bodyLimit(): ReturnType<typeof capability> {
  return capability(
    'a body limit of at most 64 MiB',
    (has) => has.limits('conformance').maxBodyBytes <= 64 * 1024 * 1024,
  )
}
