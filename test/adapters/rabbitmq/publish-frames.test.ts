import { createRequire } from 'node:module'

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { outgoing, type Outgoing } from '../../../adapters/rabbitmq/outgoing.ts'
import { PublishFrames } from '../../../adapters/rabbitmq/publish-frames.ts'
import { TopicTable } from '../../../adapters/rabbitmq/topics.ts'
import { systemClock, systemRandom } from '../../../src/contract/clock.ts'
import type { Envelope } from '../../../src/contract/message.ts'
import { envelope } from './sending-stage.ts'

interface Frame {
  readonly type: number
  readonly channel: number
  readonly size: number
  readonly payload: Buffer
  readonly rest: Buffer
}

interface Decoded {
  readonly fields?: Record<string, unknown>
  readonly size?: number
  readonly content?: Buffer
}

/** What amqplib reads with: its package does not offer it, and the file is there. */
const { parseFrame, decodeFrame } = createRequire(import.meta.url)(
  '../../../node_modules/amqplib/lib/frame.js',
) as {
  parseFrame(bytes: Buffer): Frame | false
  decodeFrame(frame: Frame): Decoded
}

const topics = new TopicTable({ prefix: '', map: new Map() }, systemClock, systemRandom)
const CHANNEL = 258
const FRAME_MAX = 131_072

/** Every message as amqplib reads it. */
function read(written: readonly Buffer[]): readonly unknown[] {
  const messages: unknown[] = []
  let rest: Buffer = Buffer.concat(written)
  const next = (): Decoded => {
    const frame = parseFrame(rest)
    if (frame === false) throw new Error('the last frame is not whole')
    expect(frame.channel).toBe(CHANNEL)
    rest = frame.rest
    return decodeFrame(frame)
  }
  while (rest.length > 0) {
    const { fields } = next()
    const header = next()
    let content = Buffer.alloc(0)
    while (content.length < header.size!) content = Buffer.concat([content, next().content!])
    messages.push({ ...fields, properties: header.fields, content: content.toString('base64') })
  }
  return messages
}

/** The same, of what should have been written. */
function expected({ exchange, routingKey, content, options }: Outgoing): unknown {
  const { contentType, messageId, headers } = options
  const properties = { contentType, headers, deliveryMode: 2, messageId }
  const none = { contentEncoding: undefined, priority: undefined, correlationId: undefined }
  return expect.objectContaining({
    exchange,
    routingKey,
    mandatory: true,
    immediate: false,
    content: content.toString('base64'),
    properties: expect.objectContaining({
      ...none,
      ...properties,
      headers: Object.fromEntries(
        Object.entries(headers).filter(([, value]) => value !== undefined),
      ) as object,
    }) as object,
  })
}

/** What is handed over is looked at only in the end, as a socket that is slow would. */
function framing(): { frames: PublishFrames; written: Buffer[] } {
  const written: Buffer[] = []
  const frames = new PublishFrames(CHANNEL, FRAME_MAX, (bytes) => void written.push(bytes))
  return { frames, written }
}

const text = fc.string({ unit: 'binary', maxLength: 120 })
const header = fc.tuple(
  fc.string({ minLength: 1, maxLength: 40 }),
  fc.oneof(text, fc.uint8Array({ maxLength: 90 }), fc.constant(null)),
)
const message: fc.Arbitrary<Envelope> = fc
  .record({
    id: fc.oneof(text, fc.constant(null)),
    type: fc.oneof(text, fc.constant(null)),
    producer: fc.oneof(text, fc.constant(null)),
    key: fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.constant(null)),
    body: fc.oneof(fc.uint8Array({ maxLength: 3_000 }), fc.constant(null)),
    contentType: fc.oneof(text, fc.constant(null)),
    timeMs: fc.oneof(fc.nat(), fc.constant(null)),
    headers: fc.array(header, { maxLength: 6 }),
  })
  .map((given) => envelope('orders', '', given))

describe('frames of messages that are made many at a time', () => {
  it('are what amqplib reads as the same messages, in their order', () => {
    fc.assert(
      fc.property(
        fc.array(message, { maxLength: 80 }),
        fc.integer({ min: 1, max: 9 }),
        (all, n) => {
          const { frames, written } = framing()
          const made: Outgoing[] = []
          for (const [index, one] of all.entries()) {
            const wanted = outgoing(one, topics)
            expect(frames.add(wanted)).toBe(true)
            made.push(wanted)
            if (index % n === 0) frames.flush()
          }
          frames.flush()
          expect(read(written)).toEqual(made.map(expected))
        },
      ),
      { numRuns: 200 },
    )
  })

  it('stay as they are while the socket is slow, however many follow', () => {
    const { frames, written } = framing()
    const made = Array.from({ length: 600 }, (_, n) =>
      outgoing(envelope('orders', `m-${n}`, { body: Buffer.alloc(500, n) }), topics),
    )
    for (const one of made) expect(frames.add(one)).toBe(true)
    frames.flush()
    // Whole pieces, not one write each.
    expect(written.length).toBeLessThan(12)
    expect(read(written)).toEqual(made.map(expected))
  })

  it('are left to amqplib where a message has something of its own', () => {
    const { frames, written } = framing()
    const plain = outgoing(envelope('orders', 'm'), topics)
    const others: readonly Partial<Outgoing>[] = [
      { isPlain: false },
      { content: Buffer.alloc(40_000) },
      { routingKey: 'x'.repeat(256) },
      { routingKey: 'é'.repeat(128) },
      { options: { ...plain.options, headers: { n: 1 } } },
      { options: { ...plain.options, headers: { table: { a: 'b' } } } },
      { options: { ...plain.options, headers: { large: 'x'.repeat(30_000) } } },
    ]
    for (const other of others) expect(frames.add({ ...plain, ...other })).toBe(false)
    const small = new PublishFrames(CHANNEL, 4_096, () => undefined)
    expect(small.add({ ...plain, content: Buffer.alloc(4_088) })).toBe(true)
    expect(small.add({ ...plain, content: Buffer.alloc(4_089) })).toBe(false)
    expect(frames.add(plain)).toBe(true)
    frames.flush()
    frames.flush()
    expect(read(written)).toEqual([expected(plain)])
  })
})
