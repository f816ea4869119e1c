import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'

import type { Envelope, Headers } from '../../../../src/contract/message.ts'
import { isOwnHeader } from '../../../../src/contract/headers.ts'
import { orderKeyOf } from '../../../../src/contract/order-key.ts'
import type { Case, Need } from '../../case.ts'
import { ackAtOnce, type Connection } from '../connection.ts'
import { draft } from '../envelopes.ts'
import type { BrokerHarness } from '../harness.ts'
import type { Received } from '../listener.ts'
import { capability } from '../needs.ts'
import { brokerCase, type Stage } from '../stage.ts'

const mebibyte = 1024 * 1024

/** Headers as hostile as the contract allows: order and duplicates count, values of every kind. */
export const hostileHeaders: Headers = [
  ['trace', 'first'],
  ['empty', ''],
  ['none', null],
  ['bytes', Uint8Array.from([0, 1, 127, 128, 255])],
  ['trace', 'second'],
  ['no-bytes', new Uint8Array(0)],
  ['unicode', 'żółć – 数 – 🦊'],
  ['trace', 'first'],
  ['Case', 'upper'],
  ['case', 'lower'],
]

/** Bodies that have to come back bit for bit, by name. */
export const bodies: readonly (readonly [name: string, body: Uint8Array | null])[] = [
  ['every byte value', Uint8Array.from({ length: 256 }, (_, byte) => byte)],
  ['no bytes', new Uint8Array(0)],
  ['a tombstone', null],
  ['invalid UTF-8', Uint8Array.from([0xc3, 0x28, 0xff, 0xfe, 0x00])],
]

let mebibyteOnce: Uint8Array | null = null

/** A mebibyte that no compression and no repetition makes smaller; the same every time. */
export function bigBody(): Uint8Array {
  mebibyteOnce ??= makeMebibyte()
  return mebibyteOnce.slice()
}

function makeMebibyte(): Uint8Array {
  const body = new Uint8Array(mebibyte)
  for (let at = 0; at < mebibyte; at += 32) {
    body.set(createHash('sha256').update(String(at)).digest(), at)
  }
  return body
}

/** The broker takes a body of a mebibyte and a little more for headers. */
export const takesMebibyte: Need<BrokerHarness> = capability(
  'limits().maxBodyBytes of 1 MiB',
  (has) => has.limits('conformance').maxBodyBytes >= mebibyte,
)

/** Everything of the envelope that has to survive the way, in a form that compares and prints well. */
export function essence(envelope: Envelope): unknown {
  const { id, type, producer, key, body, headers, contentType, timeMs } = envelope
  const own = headers.filter(([name]) => !isOwnHeader(name))
  return {
    id,
    type,
    producer,
    contentType,
    timeMs,
    key: shown(key),
    body: shown(body),
    headers: own.map(([name, value]) => [
      name,
      typeof value === 'string' ? `text ${value}` : shown(value),
    ]),
  }
}

function shown(bytes: Uint8Array | null): string {
  if (bytes === null) return 'null'
  if (bytes.length <= 256) return `bytes ${Buffer.from(bytes).toString('hex')}`
  return `${bytes.length} bytes ${createHash('sha256').update(bytes).digest('hex')}`
}

async function arrives(
  stage: Stage,
  connection: Connection,
  envelope: Envelope,
): Promise<Received> {
  const [received] = await allArrive(stage, connection, [envelope])
  return received!
}

async function allArrive(
  stage: Stage,
  connection: Connection,
  envelopes: readonly Envelope[],
): Promise<readonly Received[]> {
  const topic = (envelopes[0]!.to as { topic: string }).topic
  const listener = await connection.listen(topic, { onReceived: ackAtOnce })
  await connection.confirmed(envelopes)
  await stage.eventually(
    () => `${listener.received.length} of ${envelopes.length} arrived`,
    () => listener.received.length >= envelopes.length,
  )
  return listener.received
}

/** What a message is made of arrives as it was sent. */
export const carryingCases: readonly Case<BrokerHarness>[] = [
  brokerCase('delivers what was confirmed, once, as a first attempt', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const received = await arrives(stage, connection, draft(topic, { body: 'hello' }))
    assert.equal(Buffer.from(received.envelope.body!).toString(), 'hello')
    assert.equal(received.attempt, 1)
    assert.notEqual(received.redelivered, 'yes')
    assert.equal(typeof received.delivery.at, 'string')
    await stage.eventually(
      () => 'the acknowledged message is still stored for the group',
      async () => ((await connection.depth(topic)) ?? 0) === 0,
    )
  }),

  brokerCase('carries id, type, source, key, content type and time', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const sent = draft(topic, { key: 'clé-1', body: 'x' })
    const { envelope, delivery } = await arrives(stage, connection, sent)
    assert.deepEqual(essence(envelope), essence(sent))
    assert.equal((envelope.to as { topic: string }).topic, topic)
    assert.equal(typeof delivery.source.name, 'string')
  }),

  brokerCase('names the lane of a delivery by the ordering asked for', [], async (stage) => {
    const connection = await stage.connect()
    for (const ordering of connection.capabilities.ordering) {
      const topic = await stage.topic(connection, { ordering })
      const listener = await connection.listen(topic, { ordering, onReceived: ackAtOnce })
      await connection.confirmed([draft(topic, { key: 'k' })])
      await stage.eventually(
        () => `nothing arrived with ordering '${ordering}'`,
        () => listener.received.length === 1,
      )
      const { envelope, delivery } = listener.received[0]!
      const lane = orderKeyOf(ordering, envelope.key, delivery.source.name)
      assert.equal(envelope.orderKey, lane, `orderKey with ordering '${ordering}'`)
    }
  }),

  brokerCase('tells apart no key, an empty key and a key', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const sent = [null, '', 'k'].map((key) => draft(topic, { key }))
    const received = await allArrive(stage, connection, sent)
    const keys = new Map(received.map(({ envelope }) => [envelope.id, envelope.key]))
    for (const { id, key } of sent) {
      const came = keys.get(id) ?? null
      assert.deepEqual(came && Uint8Array.from(came), key)
    }
  }),

  brokerCase('keeps headers: order, duplicates, bytes, null and empty', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const sent = draft(topic, { headers: hostileHeaders })
    const { envelope } = await arrives(stage, connection, sent)
    assert.deepEqual(essence(envelope), essence(sent))
  }),

  ...bodies.map(([name, body]) =>
    brokerCase(`keeps a body: ${name}`, body === null ? [tombstones()] : [], async (stage) => {
      const connection = await stage.connect()
      const topic = await stage.topic(connection)
      const sent = draft(topic, { body, key: 'k' })
      assert.deepEqual(essence((await arrives(stage, connection, sent)).envelope), essence(sent))
    }),
  ),

  brokerCase('keeps a body of 1 MiB', [takesMebibyte], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const sent = draft(topic, { body: bigBody() })
    assert.deepEqual(essence((await arrives(stage, connection, sent)).envelope), essence(sent))
  }),
]

function tombstones(): ReturnType<typeof capability> {
  return capability('tombstones', (has) => has.tombstones)
}
