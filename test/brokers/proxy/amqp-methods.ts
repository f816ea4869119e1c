import { encodeFrame, frameType, type Frame } from './amqp-frames.ts'

/** The methods the proxy knows, by their names in the specification. */
export type KnownMethod =
  | 'connection.start'
  | 'connection.start-ok'
  | 'connection.tune'
  | 'connection.tune-ok'
  | 'connection.open'
  | 'connection.open-ok'
  | 'connection.close'
  | 'connection.close-ok'
  | 'connection.blocked'
  | 'connection.unblocked'
  | 'channel.open'
  | 'channel.open-ok'
  | 'channel.close'
  | 'channel.close-ok'
  | 'exchange.declare'
  | 'queue.declare'
  | 'queue.declare-ok'
  | 'queue.bind'
  | 'confirm.select'
  | 'confirm.select-ok'
  | 'basic.qos'
  | 'basic.qos-ok'
  | 'basic.consume'
  | 'basic.consume-ok'
  | 'basic.cancel'
  | 'basic.cancel-ok'
  | 'basic.publish'
  | 'basic.return'
  | 'basic.deliver'
  | 'basic.get'
  | 'basic.get-ok'
  | 'basic.ack'
  | 'basic.reject'
  | 'basic.nack'

/** A method by its name, `other` for one the proxy has no use for. */
export type MethodName = KnownMethod | 'other'

/** Class and method id. */
const ids: Readonly<Record<KnownMethod, readonly [number, number]>> = {
  'connection.start': [10, 10],
  'connection.start-ok': [10, 11],
  'connection.tune': [10, 30],
  'connection.tune-ok': [10, 31],
  'connection.open': [10, 40],
  'connection.open-ok': [10, 41],
  'connection.close': [10, 50],
  'connection.close-ok': [10, 51],
  'connection.blocked': [10, 60],
  'connection.unblocked': [10, 61],
  'channel.open': [20, 10],
  'channel.open-ok': [20, 11],
  'channel.close': [20, 40],
  'channel.close-ok': [20, 41],
  'exchange.declare': [40, 10],
  'queue.declare': [50, 10],
  'queue.declare-ok': [50, 11],
  'queue.bind': [50, 20],
  'confirm.select': [85, 10],
  'confirm.select-ok': [85, 11],
  'basic.qos': [60, 10],
  'basic.qos-ok': [60, 11],
  'basic.consume': [60, 20],
  'basic.consume-ok': [60, 21],
  'basic.cancel': [60, 30],
  'basic.cancel-ok': [60, 31],
  'basic.publish': [60, 40],
  'basic.return': [60, 50],
  'basic.deliver': [60, 60],
  'basic.get': [60, 70],
  'basic.get-ok': [60, 71],
  'basic.ack': [60, 80],
  'basic.reject': [60, 90],
  'basic.nack': [60, 120],
}

const names = new Map<number, MethodName>(
  Object.entries(ids).map(([name, [group, method]]) => [idOf(group, method), name as MethodName]),
)

function idOf(group: number, method: number): number {
  return group * 65_536 + method
}

/** Methods that are followed by a content header and, if it says so, by bodies. */
export const withContent: ReadonlySet<MethodName> = new Set<MethodName>([
  'basic.publish',
  'basic.return',
  'basic.deliver',
  'basic.get-ok',
])

/** Which method a frame carries; null for every other kind of frame. */
export function methodOf(frame: Frame): MethodName | null {
  if (frame.type !== frameType.method) return null
  return names.get(frame.payload.readUInt32BE(0)) ?? 'other'
}

/** Bytes of content that follow a content header. */
export function contentBytes(header: Frame): number {
  return Number(header.payload.readBigUInt64BE(4))
}

/** A method frame with arguments that are already encoded. */
export function encodeMethod(
  channel: number,
  name: KnownMethod,
  ...parts: readonly Buffer[]
): Buffer {
  const [group, id] = ids[name]
  const head = Buffer.alloc(4)
  head.writeUInt32BE(idOf(group, id))
  return encodeFrame(frameType.method, channel, Buffer.concat([head, ...parts]))
}

/** A number of one or two bytes, big-endian. */
export function short(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(value)
  return bytes
}

/** A short string: its length in one byte, then UTF-8. */
export function shortString(text: string): Buffer {
  const bytes = Buffer.from(text)
  return Buffer.concat([Buffer.from([bytes.length]), bytes])
}

/** `basic.ack` or `basic.nack` of one message, as a broker writes it on a confirm channel. */
export function encodeConfirm(
  channel: number,
  name: 'basic.ack' | 'basic.nack',
  tag: number,
): Buffer {
  const bytes = Buffer.alloc(9)
  bytes.writeBigUInt64BE(BigInt(tag))
  return encodeMethod(channel, name, bytes)
}

/** `channel.close` for a reason that names no method. */
export function encodeChannelClose(channel: number, code: number, text: string): Buffer {
  return encodeMethod(channel, 'channel.close', short(code), shortString(text), short(0), short(0))
}

/** Reads the arguments of a method one after another. */
export class Arguments {
  readonly #bytes: Buffer
  #at = 4

  constructor(frame: Frame) {
    this.#bytes = frame.payload
  }

  short(): number {
    this.#at += 2
    return this.#bytes.readUInt16BE(this.#at - 2)
  }

  /** Delivery tags count from 1 and stay far below 2⁵³. */
  tag(): number {
    this.#at += 8
    return Number(this.#bytes.readBigUInt64BE(this.#at - 8))
  }

  /** The lowest bit of a byte. */
  bit(): boolean {
    this.#at += 1
    return (this.#bytes.readUInt8(this.#at - 1) & 1) === 1
  }

  shortString(): string {
    const length = this.#bytes.readUInt8(this.#at)
    this.#at += 1 + length
    return this.#bytes.toString('utf8', this.#at - length, this.#at)
  }
}
