import assert from 'node:assert/strict'

import type { Source } from '../../../../src/contract/broker.ts'
import type { Envelope } from '../../../../src/contract/message.ts'
import type { Case } from '../../case.ts'
import { Gate } from '../../gate.ts'
import { ackAtOnce, type Connection } from '../connection.ts'
import { run } from '../envelopes.ts'
import type { BrokerHarness } from '../harness.ts'
import type { Listener, OnRevoking, Received } from '../listener.ts'
import { asksBack, ordering } from '../needs.ts'
import { brokerCase, type Stage } from '../stage.ts'

const KEYS = 256
const EACH = 2
/** A holder who gives away what it has least of still gives away more than this. */
const SOME = 10

/** So many keys that there is something in nearly everything a broker divides a topic into. */
function manyKeys(topic: string): readonly Envelope[] {
  return Array.from({ length: KEYS }, (_, key) => run(topic, `k${key}`, EACH)).flat()
}

/** A topic, and a listener that holds as many of its messages as it may. */
async function holding(
  stage: Stage,
  onRevoking?: OnRevoking,
): Promise<{ readonly topic: string; readonly holder: Listener }> {
  const connection = await stage.connect()
  const topic = await stage.topic(connection, { partitions: 4, ordering: 'key' })
  const holder = await connection.listen(topic, {
    ordering: 'key',
    ...(onRevoking && { onRevoking }),
  })
  await connection.confirmed(manyKeys(topic))
  await stage.eventually(
    () => `only ${holder.received.length} of ${KEYS * EACH} arrived`,
    () => holder.received.length >= KEYS / 2,
  )
  await stage.still(() => holder.received.length)
  return { topic, holder }
}

type Ids = ReadonlySet<string | null>

function idsOf(received: readonly Received[]): Ids {
  return new Set(received.map(({ envelope }) => envelope.id))
}

function countOf(listener: Listener, ids: Ids): number {
  return listener.received.filter(({ envelope }) => ids.has(envelope.id)).length
}

/** Of each source what came first: a broker may remember no more than how far it was settled. */
function firstHalves(received: readonly Received[]): readonly Received[] {
  return received.filter((one) => {
    const all = received.filter(({ delivery }) => delivery.source === one.delivery.source)
    return all.indexOf(one) < all.length / 2
  })
}

/** Sources asked back because another consumer joined, and what their holder has of them. */
class Asked {
  readonly sources: Source[] = []
  readonly answer = new Gate()

  of(holder: Listener): readonly Received[] {
    return holder.received.filter(({ delivery }) => this.sources.includes(delivery.source))
  }

  readonly listen = async (sources: readonly Source[]): Promise<void> => {
    this.sources.push(...sources)
    await this.answer.passed
  }
}

/** Another consumer of the group, which holds what it gets. */
async function joined(
  stage: Stage,
  topic: string,
): Promise<{ readonly connection: Connection; readonly other: Listener }> {
  const connection = await stage.connect()
  return { connection, other: await connection.listen(topic, { ordering: 'key' }) }
}

/** Ids of what the holder has of the sources that it is asked for. */
async function askedFor(stage: Stage, asked: Asked, holder: Listener): Promise<Ids> {
  await stage.eventually(
    () => 'nothing was asked back for a consumer that joined',
    () => asked.of(holder).length >= SOME,
  )
  return idsOf(asked.of(holder))
}

async function allCame(stage: Stage, listener: Listener, ids: Ids): Promise<void> {
  await stage.eventually(
    () => `${countOf(listener, ids)} of ${ids.size} came to another consumer`,
    () => countOf(listener, ids) >= ids.size,
  )
  await stage.still(() => listener.received.length)
  assert.equal(countOf(listener, ids), ids.size, 'something came twice')
}

/** Sources that go to another consumer in order: asked back first, given up after the answer. */
export const revokingCases: readonly Case<BrokerHarness>[] = [
  brokerCase(
    'leaves a source to its holder until revoking() has resolved',
    [asksBack, ordering('key')],
    async (stage) => {
      const asked = new Asked()
      const { topic, holder } = await holding(stage, asked.listen)
      const { other } = await joined(stage, topic)
      const ids = await askedFor(stage, asked, holder)
      await stage.quiet('handed out before its holder was done', () => countOf(other, ids))
      const settled = firstHalves(asked.of(holder))
      for (const one of settled) holder.ack(one)
      asked.answer.open()
      const done = idsOf(settled)
      await allCame(stage, other, new Set([...ids].filter((id) => !done.has(id))))
      assert.equal(countOf(other, done), 0, 'what was settled in time came to the other')
      for (const one of other.received.filter(({ envelope }) => ids.has(envelope.id))) {
        assert.equal(one.attempt, 1, 'handing over counts no attempt')
        assert.notEqual(one.redelivered, 'no', 'another consumer had it before')
      }
    },
  ),

  brokerCase(
    'ignores settles of a source that was given up',
    [asksBack, ordering('key')],
    async (stage) => {
      const asked = new Asked()
      const { topic, holder } = await holding(stage, asked.listen)
      const { other, connection } = await joined(stage, topic)
      const ids = await askedFor(stage, asked, holder)
      const stale = asked.of(holder)
      asked.answer.open()
      await allCame(stage, other, ids)
      for (const { delivery } of stale) delivery.ack()
      await holder.receiver.flush(stage.deadline()).catch(() => undefined)
      await connection.close()
      await holder.close(stage.deadline())
      const next = await (await stage.connect()).listen(topic, { onReceived: ackAtOnce })
      await allCame(stage, next, ids)
    },
  ),

  brokerCase(
    'hands over what is released while it is asked back, and nothing else',
    [asksBack, ordering('key')],
    async (stage) => {
      // A listener releases what it holds of a source that is asked back, and says that it is done.
      const { topic, holder } = await holding(stage)
      const { other } = await joined(stage, topic)
      await stage.eventually(
        () => 'nothing was released for a consumer that joined',
        () => holder.received.length - holder.held.size >= SOME,
      )
      await stage.still(() => holder.held.size)
      const kept = idsOf([...holder.held])
      const released = new Set([...idsOf(holder.received)].filter((id) => !kept.has(id)))
      await allCame(stage, other, released)
      await stage.quiet('held by two at once', () => countOf(other, kept))
      assert.equal(countOf(other, kept), 0, 'held by two at once')
      assert.ok(other.received.every(({ attempt }) => attempt === 1))
    },
  ),
]
