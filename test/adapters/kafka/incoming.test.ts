import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { byteMark, byteMarked, BYTES } from '../../../adapters/kafka/byte-headers.ts'
import { ORIGIN } from '../../../adapters/kafka/cloud-events.ts'
import type { FetchedRecord, RecordHeaders } from '../../../adapters/kafka/driver.ts'
import { incoming, type ReadAt } from '../../../adapters/kafka/incoming.ts'
import { Native, originText } from '../../../adapters/kafka/native.ts'
import { headersOf } from '../../../adapters/kafka/outgoing.ts'
import { timeIn } from '../../../adapters/kafka/time-bytes.ts'
import type { Envelope, Headers, HeaderValue } from '../../../src/contract/message.ts'
import { timeText } from '../../../src/contract/time-text.ts'
import { hostileHeaders } from '../../conformance/broker/contract/carrying.ts'
import { draft } from '../../conformance/broker/envelopes.ts'

const at: ReadAt = {
  topic: 'test.orders',
  partition: 3,
  to: { kind: 'topic', topic: 'orders' },
  ordering: 'key',
  name: 'test.orders/3',
}

/** Headers as they are on the wire: nothing but bytes. */
function onWire(headers: Headers): RecordHeaders {
  return headers.map(([name, value]) => [name, value === null ? null : Buffer.from(value)])
}

function recordOf(envelope: Envelope, given: Partial<FetchedRecord> = {}): FetchedRecord {
  return {
    offset: 4_711n,
    key: envelope.key && Buffer.from(envelope.key),
    value: envelope.body && Buffer.from(envelope.body),
    headers: onWire(headersOf(envelope)),
    timestampMs: 1_700_000_000_000,
    ...given,
  }
}

/** Everything that has to come as it went. */
function essence({ id, type, producer, key, body, headers, contentType, timeMs }: Envelope) {
  const plain = (value: HeaderValue): unknown =>
    value instanceof Uint8Array ? { bytes: [...value] } : value
  return {
    ...{ id, type, producer, contentType, timeMs },
    key: plain(key),
    body: plain(body),
    headers: headers.map(([name, value]) => [name, plain(value)]),
  }
}

const foreign = (given: Partial<FetchedRecord> = {}): FetchedRecord => ({
  offset: 2n ** 60n,
  key: Buffer.from('k'),
  value: Buffer.from('v'),
  headers: [],
  timestampMs: 1_700_000_000_123,
  ...given,
})

const values = fc.oneof(
  fc.constant(null),
  fc.string({ unit: 'grapheme' }),
  fc.uint8Array({ maxLength: 40 }),
)
const names = fc.oneof(fc.constantFrom('a', 'b', '__proto__', '1'), fc.string({ minLength: 1 }))

describe('incoming', () => {
  it('reads what outgoing wrote, header for header', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(names, values), { maxLength: 12 }),
        fc.option(fc.string({ minLength: 1 })),
        (headers, contentType) => {
          const sent = { ...draft('orders', { key: 'clé', headers }), contentType }
          const got = incoming(recordOf(sent), at)
          expect(essence(got)).toEqual(essence(sent))
          expect(got.orderKey).toBe('clé')
          expect(got.to).toBe(at.to)
        },
      ),
    )
  })

  it('keeps text and bytes apart, also where they look the same', () => {
    const sent = draft('orders', { headers: hostileHeaders, body: null })
    const record = recordOf(sent)
    expect(record.headers.some(([name]) => name === BYTES)).toBe(true)
    expect(essence(incoming(record, at))).toEqual(essence(sent))
  })

  it('writes no mark where nothing could be mistaken', () => {
    const headers: Headers = [
      ['text', 'x'],
      ['bytes', Uint8Array.from([0xc3, 0x28])],
      ['none', null],
    ]
    expect(byteMark(headers)).toBeNull()
    expect(byteMark([['empty', new Uint8Array(0)]])).toBe('0')
    expect([...byteMarked('0,12')]).toEqual([0, 12])
    expect([...byteMarked('a lot')]).toEqual([])
  })

  it('knows a foreign record by where it was first read, and by its time', () => {
    const got = incoming(foreign({ headers: [['x', Buffer.from('1')]] }), at)
    expect(got).toMatchObject({
      id: 'test.orders/3/1152921504606846976/1700000000123',
      type: null,
      producer: null,
      contentType: null,
      timeMs: 1_700_000_000_123,
      headers: [['x', '1']],
    })
    expect(got.native).toBeInstanceOf(Native)
    expect(originText(got.native!.origin)).toBe(got.id)
  })

  it('gives a foreign record the same id wherever a copy of it is read', () => {
    const first = incoming(foreign(), at)
    const copy: Envelope = {
      ...(first as Envelope),
      to: { kind: 'group', topic: 'orders', group: 'a', delayMs: 1_000 },
    }
    const again = incoming(recordOf(copy), { ...at, topic: 'test.orders.a.retry.1000' })
    expect(again.id).toBe(first.id)
    expect(again.timeMs).toBe(first.timeMs)
    expect(again.native?.origin).toEqual(first.native?.origin)
    const bare = foreign({ headers: [[ORIGIN, Buffer.from(first.id!)]] })
    expect(incoming(bare, at).id).toBe(first.id)
  })

  it('takes only the first of a name for an attribute', () => {
    const headers = onWire([
      ['ce_id', 'event'],
      ['ce_id', 'mine'],
      ['content-type', 'a/b'],
      ['content-type', 'c/d'],
      ['ce_time', 'yesterday'],
      ['ce_subject', 's'],
    ])
    expect(incoming(foreign({ headers }), at)).toMatchObject({
      id: 'event',
      contentType: 'a/b',
      timeMs: null,
      headers: [
        ['ce_id', 'mine'],
        ['content-type', 'c/d'],
        ['ce_time', 'yesterday'],
        ['ce_subject', 's'],
      ],
    })
  })

  it('tells no key, an empty key and a tombstone apart', () => {
    const none = incoming(foreign({ key: null, value: null }), at)
    expect(none).toMatchObject({ key: null, orderKey: null, body: null })
    const empty = incoming(foreign({ key: Buffer.alloc(0), value: Buffer.alloc(0) }), at)
    expect(empty).toMatchObject({ key: Buffer.alloc(0), orderKey: '', body: Buffer.alloc(0) })
  })

  it('orders by its source where the partition orders', () => {
    expect(incoming(foreign(), { ...at, ordering: 'partition' }).orderKey).toBe('test.orders/3')
    expect(incoming(foreign(), { ...at, ordering: 'none' }).orderKey).toBeNull()
  })

  it('lets go of the answer it came with', () => {
    const answer = Buffer.from('key|body|bytes\xff', 'latin1')
    const got = incoming(
      foreign({
        key: answer.subarray(0, 3),
        value: answer.subarray(4, 8),
        headers: [['h', answer.subarray(9, 15)]],
      }),
      at,
    )
    got.detach()
    answer.fill(0)
    expect(Buffer.from(got.key!).toString()).toBe('key')
    expect(Buffer.from(got.body!).toString()).toBe('body')
    expect(Buffer.from(got.headers[0]![1] as Uint8Array).toString('latin1')).toBe('bytes\xff')
    const empty = incoming(foreign({ key: null, value: null }), at)
    empty.detach()
    expect(empty).toMatchObject({ key: null, body: null })
  })
})

describe('timeIn', () => {
  it('reads every time that we write', () => {
    const read = (text: string): number | null => {
      const bytes = Buffer.from(`..${text}.`)
      return timeIn(bytes, 2, bytes.length - 1)
    }
    fc.assert(
      fc.property(fc.integer({ min: -62_000_000_000_000, max: 253_000_000_000_000 }), (ms) => {
        expect(read(timeText(ms))).toBe(ms)
      }),
    )
  })

  it('reads what others write, and nothing else', () => {
    const at = (text: string): number | null => timeIn(Buffer.from(text), 0, text.length)
    expect(at('2025-01-31T23:59:59+01:00')).toBe(1_738_364_399_000)
    for (const text of ['', 'now', '2025-01-31T99:59:59.000Z', '2025-01-31Tab:59:59.000Z']) {
      const read = at(text)
      expect(read === null || text.includes('99')).toBe(true)
    }
  })
})
