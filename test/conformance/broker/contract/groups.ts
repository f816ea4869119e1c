import assert from 'node:assert/strict'

import { CapabilityError } from '../../../../src/contract/errors.ts'
import type { Case } from '../../case.ts'
import { ackAtOnce, type Connection } from '../connection.ts'
import { draft, run } from '../envelopes.ts'
import type { BrokerHarness } from '../harness.ts'
import type { Listener } from '../listener.ts'
import { brokerCase, type Stage } from '../stage.ts'

/** Who gets a message: every group once, one consumer of a group. */
export const groupCases: readonly Case<BrokerHarness>[] = [
  brokerCase('gives each message to every group once', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection, { groups: ['a', 'b', 'c'] })
    const listeners = await Promise.all(
      ['a', 'b', 'c'].map((group) => connection.listen(topic, { group, onReceived: ackAtOnce })),
    )
    const sent = run(topic, null, 50)
    await connection.confirmed(sent)
    await stage.eventually(
      () => `groups got ${listeners.map((one) => one.received.length).join(', ')} of 50`,
      () => listeners.every((one) => one.received.length >= 50),
    )
    await stage.quiet('more than once', () => count(listeners))
    for (const { received } of listeners) {
      assert.deepEqual(ids(received.map((one) => one.envelope.id)), ids(sent.map(({ id }) => id)))
    }
  }),

  brokerCase(
    'lets one group finish a message without finishing it for another',
    [],
    async (stage) => {
      const connection = await stage.connect()
      const topic = await stage.topic(connection, { groups: ['a', 'b'] })
      const first = await connection.listen(topic, { group: 'a', onReceived: ackAtOnce })
      await connection.confirmed([draft(topic)])
      await stage.eventually(
        () => 'group a got nothing',
        () => first.received.length === 1,
      )
      await first.receiver.flush(stage.deadline())
      const second = await connection.listen(topic, { group: 'b', onReceived: ackAtOnce })
      await stage.eventually(
        () => 'group b got nothing after group a had finished the message',
        () => second.received.length === 1,
      )
    },
  ),

  brokerCase('shares the messages of a group between its consumers', [], async (stage) => {
    const connections = [await stage.connect(), await stage.connect()] as const
    const topic = await stage.topic(connections[0])
    const listeners = await Promise.all(
      connections.map((one) => one.listen(topic, { onReceived: ackAtOnce })),
    )
    const sent = run(topic, null, 200)
    await connections[0].confirmed(sent)
    await stage.eventually(
      () => `${count(listeners)} of 200 arrived`,
      () => count(listeners) >= 200,
    )
    await stage.quiet('more than once', () => count(listeners))
    const got = listeners.flatMap(({ received }) => received.map((one) => one.envelope.id))
    assert.deepEqual(ids(got), ids(sent.map(({ id }) => id)))
  }),

  brokerCase('keeps for a declared group what is sent before it listens', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    await connection.confirmed(run(topic, null, 20))
    const listener = await connection.listen(topic, { onReceived: ackAtOnce })
    await stage.eventually(
      () => `${listener.received.length} of 20 arrived`,
      () => listener.received.length === 20,
    )
  }),

  brokerCase("starts a new group 'now': without what was there before", [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    await connection.confirmed(run(topic, null, 20))
    await connection.declare({ name: topic, groups: ['a', 'late'] })
    const listener = await connection.listen(topic, { group: 'late', onReceived: ackAtOnce })
    await connection.confirmed([draft(topic, { body: 'after' })])
    await stage.eventually(
      () => 'the new group got nothing',
      () => listener.received.length > 0,
    )
    await stage.quiet('it got more', () => listener.received.length)
    assert.deepEqual(listener.bodies, ['after'])
  }),

  brokerCase(
    "starts a new group at 'earliest' with what was there before, or refuses that by name",
    [],
    async (stage) => {
      const connection = await stage.connect()
      const topic = await stage.topic(connection)
      const before = run(topic, null, 20)
      await connection.confirmed(before)
      await connection.declare({ name: topic, groups: ['a', 'late'] })
      const listener = await fromEarliest(connection, topic)
      const after = draft(topic, { body: 'after' })
      const taker =
        listener ?? (await connection.listen(topic, { group: 'late', onReceived: ackAtOnce }))
      await connection.confirmed([after])
      const wanted = listener === null ? [after] : [...before, after]
      await stage.eventually(
        () => `${taker.received.length} of ${wanted.length} arrived`,
        () => taker.received.length >= wanted.length,
      )
      await stage.quiet('it got more', () => taker.received.length)
      assert.deepEqual(
        ids(taker.received.map(({ envelope }) => envelope.id)),
        ids(wanted.map(({ id }) => id)),
      )
      if (listener !== null) await goesOn(stage, topic, connection, listener)
    },
  ),

  brokerCase('reads several topics with one receiver', [], async (stage) => {
    const connection = await stage.connect()
    const topics = [await stage.topic(connection), await stage.topic(connection)]
    const listener = await connection.listen(topics, { onReceived: ackAtOnce })
    await connection.confirmed(topics.flatMap((topic) => run(topic, null, 5)))
    await stage.eventually(
      () => `${listener.received.length} of 10 arrived`,
      () => listener.received.length === 10,
    )
    const from = listener.received.map(({ envelope }) => (envelope.to as { topic: string }).topic)
    assert.deepEqual(new Set(from), new Set(topics))
  }),

  brokerCase('reaches one group alone when sent to that group', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection, { groups: ['a', 'b'] })
    const a = await connection.listen(topic, { group: 'a', onReceived: ackAtOnce })
    const b = await connection.listen(topic, { group: 'b', onReceived: ackAtOnce })
    const to = { kind: 'group', topic, group: 'a', delayMs: 0 } as const
    await connection.confirmed([draft(topic, { to, body: 'for a' })], 'settle')
    await connection.confirmed([draft(topic, { body: 'for both' })])
    await stage.eventually(
      () => `a got ${a.bodies.join(', ')}; b got ${b.bodies.join(', ')}`,
      () => a.received.length >= 2 && b.received.length >= 1,
    )
    await stage.quiet('more came', () => count([a, b]))
    assert.deepEqual(a.bodies.toSorted(), ['for a', 'for both'])
    assert.deepEqual(b.bodies, ['for both'])
  }),
]

/** A listener of group `late` that begins with the oldest message; null where that is refused by name. */
async function fromEarliest(connection: Connection, topic: string): Promise<Listener | null> {
  const options = { group: 'late', from: 'earliest', onReceived: ackAtOnce } as const
  try {
    return await connection.listen(topic, options)
  } catch (error) {
    assert.ok(error instanceof CapabilityError, String(error))
    assert.match(error.message, /earliest/)
    return null
  }
}

/** Only a new group starts there: one that has begun goes on where it was. */
async function goesOn(
  stage: Stage,
  topic: string,
  connection: Connection,
  listener: Listener,
): Promise<void> {
  await listener.receiver.flush(stage.deadline())
  await connection.close()
  const next = await stage.connect()
  const again = await fromEarliest(next, topic)
  assert.ok(again, 'it was refused the second time')
  await next.confirmed([draft(topic, { body: 'later' })])
  await stage.eventually(
    () => 'nothing came to the group that goes on',
    () => again.received.length > 0,
  )
  await stage.quiet('it began again', () => again.received.length)
  assert.deepEqual(again.bodies, ['later'])
}

function count(listeners: readonly { readonly received: readonly unknown[] }[]): number {
  return listeners.reduce((sum, one) => sum + one.received.length, 0)
}

function ids(all: readonly (string | null)[]): readonly (string | null)[] {
  return all.toSorted((one, other) => String(one).localeCompare(String(other)))
}
