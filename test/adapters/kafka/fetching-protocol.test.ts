import { createRequire } from 'node:module'
import { gzipSync, gunzipSync } from 'node:zlib'

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { writeBatch } from '../../../adapters/kafka/batch-writer.ts'
import { ByteWriter } from '../../../adapters/kafka/byte-writer.ts'
import type { FetchedRecord } from '../../../adapters/kafka/driver.ts'
import { decodeFetch, encodeFetch } from '../../../adapters/kafka/fetch-protocol.ts'
import { readBatches, type AbortedTransaction } from '../../../adapters/kafka/record-batch.ts'

/** Parts of kafkajs that write what is read here: an opinion of somebody else on the format. */
const kafkajs = createRequire(import.meta.url)
const { RecordBatch } = kafkajs('kafkajs/src/protocol/recordBatch/v0/index.js') as {
  RecordBatch(batch: object): Promise<{ readonly buffer: Buffer }>
}
const writeRecord = kafkajs('kafkajs/src/protocol/recordBatch/record/v0/index.js') as (
  record: object,
) => unknown
const fetchRequest = kafkajs('kafkajs/src/protocol/requests/fetch/v11/request.js') as (
  request: object,
) => { encode(): Promise<{ readonly buffer: Buffer }> }

interface Written {
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers?: Readonly<Record<string, Buffer | Buffer[]>>
}

interface BatchSetup {
  readonly at?: bigint
  readonly transactional?: boolean
  readonly producerId?: number
  readonly compression?: number
  readonly timestampMs?: number
}

/** One batch as kafkajs writes it, at an offset as a broker would place it. */
async function batchOf(records: readonly Written[], setup: BatchSetup = {}): Promise<Buffer> {
  const { at = 0n, transactional = false, producerId = -1, compression = 0 } = setup
  const timestampMs = setup.timestampMs ?? 1_700_000_000_000
  const written = records.map((record, index) =>
    writeRecord({ ...record, offsetDelta: index, timestampDelta: index }),
  )
  const { buffer } = await RecordBatch({
    compression,
    firstTimestamp: timestampMs,
    maxTimestamp: timestampMs + records.length,
    producerId,
    producerEpoch: 0,
    firstSequence: 0,
    transactional,
    lastOffsetDelta: records.length - 1,
    records: written,
  })
  const batch = Buffer.from(buffer)
  batch.writeBigInt64BE(at, 0)
  return batch
}

/** A commit or abort marker, as only brokers write them. */
async function markerOf(type: 'commit' | 'abort', at: bigint, producerId: number): Promise<Buffer> {
  const key = Buffer.from([0, 0, 0, type === 'abort' ? 0 : 1])
  const batch = await batchOf([{ key, value: Buffer.alloc(6) }], {
    at,
    producerId,
    transactional: true,
  })
  batch.writeInt16BE(batch.readInt16BE(21) | 0x20, 21)
  return batch
}

/** What a record has, all of it made. */
function plain({ offset, key, value, headers, timestampMs }: FetchedRecord): FetchedRecord {
  return { offset, key, value, headers, timestampMs }
}

const value = (text: string): Written => ({ key: null, value: Buffer.from(text) })
const never = (): Promise<Buffer> => Promise.reject(new Error('nothing is compressed'))

async function read(
  bytes: Buffer,
  from = 0n,
  aborted: readonly AbortedTransaction[] = [],
): Promise<{ texts: string[]; offsets: bigint[]; next: bigint | null }> {
  const { records, next } = await readBatches(bytes, from, aborted, never)
  const texts = records.map((one) => one.value?.toString() ?? 'null')
  return { texts, offsets: records.map(({ offset }) => offset), next }
}

const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array))
const nullable = fc.option(bytes)
const records = fc.array(
  fc.record({
    key: nullable,
    value: nullable,
    headers: fc.dictionary(fc.string({ minLength: 1, maxLength: 80 }), bytes, { maxKeys: 6 }),
  }),
  { minLength: 1, maxLength: 40 },
)

describe('readBatches', () => {
  it('knows what a record takes with its key and headers', async () => {
    const headers = [['name', Buffer.alloc(300)]] as const
    const one = { key: Buffer.alloc(100), value: Buffer.alloc(200), headers, timestampMs: null }
    const writer = new ByteWriter()
    const identity = { producerId: -1n, producerEpoch: -1, sequence: -1, nowMs: 1_000 }
    writeBatch(writer, [one], identity)
    const [record] = (await readBatches(Buffer.from(writer.written), 0n, [], never)).records
    expect(record?.bytes).toBeGreaterThanOrEqual(604)
    expect(record?.bytes).toBeLessThan(620)
    expect(record?.detached?.().bytes).toBe(record?.bytes)
  })

  it('reads what kafkajs writes, field for field', async () => {
    const ats = fc.bigInt({ min: 0n, max: 2n ** 62n })
    await fc.assert(
      fc.asyncProperty(records, ats, async (written, at) => {
        const batch = await batchOf(written, { at })
        const { records: found, next } = await readBatches(batch, at, [], never)
        expect(next).toBe(at + BigInt(written.length))
        const wanted = written.map(({ key, value, headers }, index): FetchedRecord => ({
          offset: at + BigInt(index),
          key,
          value,
          headers: Object.entries(headers),
          timestampMs: 1_700_000_000_000 + index,
        }))
        expect(found.map(plain)).toEqual(wanted)
        expect(found.map((one) => plain(one.detached!()))).toEqual(wanted)
      }),
    )
  })

  it('keeps the order of headers and their duplicates', async () => {
    const headers = { a: [Buffer.from('1'), Buffer.from('2')], b: Buffer.from('x') }
    const batch = await batchOf([{ key: null, value: null, headers }])
    const [record] = (await readBatches(batch, 0n, [], never)).records
    expect(record?.headers.map(([name, bytes]) => [name, bytes?.toString()])).toEqual([
      ['a', '1'],
      ['a', '2'],
      ['b', 'x'],
    ])
  })

  it('reads what our own producer writes, nulls and all', async () => {
    const headers = fc.array(fc.tuple(fc.string(), fc.option(bytes)), { maxLength: 6 })
    const own = fc.array(fc.record({ key: nullable, value: nullable, headers }), { minLength: 1 })
    await fc.assert(
      fc.asyncProperty(own, async (written) => {
        const writer = new ByteWriter()
        const identity = { producerId: -1n, producerEpoch: -1, sequence: -1, nowMs: 1_234 }
        writeBatch(
          writer,
          written.map((one) => ({ ...one, timestampMs: null })),
          identity,
        )
        const { records: found } = await readBatches(Buffer.from(writer.written), 0n, [], never)
        const wanted = written.map((one, at): FetchedRecord => {
          return { ...one, offset: BigInt(at), timestampMs: 1_234 }
        })
        expect(found.map(plain)).toEqual(wanted)
        expect(found.map((one) => plain(one.detached!()))).toEqual(wanted)
      }),
    )
  })

  it('goes on behind the last batch, although its last records were compacted away', async () => {
    const batch = await batchOf([value('a'), value('b')], { at: 10n })
    batch.writeInt32BE(7, 23)
    expect(await read(batch, 10n)).toEqual({ texts: ['a', 'b'], offsets: [10n, 11n], next: 18n })
  })

  it('leaves out what is before the offset that was asked for', async () => {
    const batch = await batchOf(['a', 'b', 'c'].map(value), { at: 5n })
    expect(await read(batch, 7n)).toEqual({ texts: ['c'], offsets: [7n], next: 8n })
  })

  it('leaves a batch that is cut off for the next time', async () => {
    const first = await batchOf([value('a')])
    const second = await batchOf([value('b')], { at: 1n })
    const cut = Buffer.concat([first, second.subarray(0, second.length - 1)])
    expect(await read(cut)).toEqual({ texts: ['a'], offsets: [0n], next: 1n })
    expect(await read(second.subarray(0, 40), 1n)).toMatchObject({ texts: [], next: null })
    expect(await read(Buffer.alloc(0))).toMatchObject({ texts: [], next: null })
  })

  it('hides aborted transactions and control records, and goes past them', async () => {
    const log = Buffer.concat([
      await batchOf([value('aborted')], { at: 0n, transactional: true, producerId: 7 }),
      await batchOf([value('other')], { at: 1n, transactional: true, producerId: 8 }),
      await batchOf([value('plain')], { at: 2n, producerId: 7 }),
      await markerOf('abort', 3n, 7),
      await batchOf([value('later')], { at: 4n, transactional: true, producerId: 7 }),
      await markerOf('commit', 5n, 8),
      await markerOf('commit', 6n, 7),
    ])
    const aborted = [{ producerId: 7n, firstOffset: 0n }]
    const found = await read(log, 0n, aborted)
    expect(found).toEqual({
      texts: ['other', 'plain', 'later'],
      offsets: [1n, 2n, 4n],
      next: 7n,
    })
  })

  it('takes a key of four zeros for no end of a transaction', async () => {
    const zeros = { key: Buffer.alloc(4), value: Buffer.from('aborted too') }
    const log = Buffer.concat([
      await batchOf([zeros], { at: 0n, transactional: true, producerId: 7 }),
      await batchOf([value('aborted')], { at: 1n, transactional: true, producerId: 7 }),
      await markerOf('abort', 2n, 7),
    ])
    const found = await read(log, 0n, [{ producerId: 7n, firstOffset: 0n }])
    expect(found).toEqual({ texts: [], offsets: [], next: 3n })
  })

  it('takes the time at which the broker appended, where the topic says so', async () => {
    const batch = await batchOf([value('a'), value('b')], { timestampMs: 1_000 })
    batch.writeInt16BE(batch.readInt16BE(21) | 0x08, 21)
    batch.writeBigInt64BE(9_999n, 35)
    const found = await readBatches(batch, 0n, [], never)
    expect(found.records.map(({ timestampMs }) => timestampMs)).toEqual([9_999, 9_999])
  })

  it('reads compressed batches with the codec they name', async () => {
    const plain = await batchOf(['a', 'b'].map(value), { at: 3n })
    const packed = Buffer.concat([plain.subarray(0, 61), gzipSync(plain.subarray(61))])
    packed.writeInt32BE(packed.length - 12, 8)
    packed.writeInt16BE(1, 21)
    const codecs: number[] = []
    const { records: found } = await readBatches(packed, 3n, [], async (codec, bytes) => {
      codecs.push(codec)
      return gunzipSync(bytes)
    })
    expect(found.map((one) => one.value?.toString())).toEqual(['a', 'b'])
    expect(codecs).toEqual([1])
  })

  it('says of the format before 0.11 that it cannot read it', async () => {
    const batch = await batchOf([value('a')])
    batch.writeInt8(1, 16)
    await expect(read(batch)).rejects.toMatchObject({
      code: 'codec',
      message: expect.stringContaining('before 0.11') as string,
    })
  })

  it('does not read beyond a batch that is damaged', async () => {
    const batch = await batchOf([value('abcdef')])
    batch[61] = 0xfe
    await expect(read(batch)).rejects.toMatchObject({ code: 'codec' })
  })
})

describe('the fetch protocol', () => {
  const limits = { maxWaitMs: 500, maxBytes: 10_000_000, maxBytesPerPartition: 1_000_000 }

  it('asks as kafkajs does', async () => {
    const parts = [
      { topic: 'orders', partition: 3, offset: 2n ** 60n },
      { topic: 'orders', partition: 0, offset: 0n },
      { topic: 'other', partition: 1, offset: 7n },
    ]
    const theirs = fetchRequest({
      replicaId: -1,
      maxWaitTime: 500,
      minBytes: 1,
      maxBytes: 10_000_000,
      topics: ['orders', 'other'].map((topic) => ({
        topic,
        partitions: parts
          .filter((part) => part.topic === topic)
          .map(({ partition, offset }) => ({
            partition,
            fetchOffset: offset.toString(),
            maxBytes: 1_000_000,
          })),
      })),
    })
    const { buffer } = await theirs.encode()
    expect(encodeFetch(new ByteWriter(), parts, limits)).toEqual(Buffer.from(buffer))
  })

  it('reads answers with errors, holes and several topics', () => {
    const writer = new ByteWriter()
    writer.int32(5)
    writer.int16(0)
    writer.int32(0)
    writer.int32(1)
    writer.text16('orders')
    writer.int32(2)
    for (const [partition, error] of [
      [0, 0],
      [1, 6],
    ] as const) {
      writer.int32(partition)
      writer.int16(error)
      writer.int64(100n)
      writer.int64(90n)
      writer.int64(10n)
      writer.int32(error === 0 ? 1 : -1)
      if (error === 0) {
        writer.int64(7n)
        writer.int64(50n)
      }
      writer.int32(-1)
      writer.int32(error === 0 ? 3 : -1)
      if (error === 0) writer.raw(Buffer.from('abc'))
    }
    const answer = decodeFetch(Buffer.from(writer.written))
    expect(answer).toMatchObject({ throttleMs: 5, error: 0 })
    expect(answer.parts).toEqual([
      {
        topic: 'orders',
        partition: 0,
        error: 0,
        highWatermark: 100n,
        logStart: 10n,
        aborted: [{ producerId: 7n, firstOffset: 50n }],
        records: Buffer.from('abc'),
      },
      {
        topic: 'orders',
        partition: 1,
        error: 6,
        highWatermark: 100n,
        logStart: 10n,
        aborted: [],
        records: Buffer.alloc(0),
      },
    ])
    expect(() => decodeFetch(Buffer.from(writer.written.subarray(0, 40)))).toThrow(RangeError)
  })
})
