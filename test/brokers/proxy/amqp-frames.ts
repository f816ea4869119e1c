const PREFACE = Buffer.from('AMQP')
const PREFACE_BYTES = 8
const HEADER_BYTES = 7
const FRAME_END = 0xce

/** Frame types of AMQP 0-9-1, and `preface` for the eight bytes a connection begins with. */
export const frameType = { preface: 0, method: 1, header: 2, body: 3, heartbeat: 8 } as const

/** One frame as it was on the wire. */
export interface Frame {
  readonly type: number
  readonly channel: number
  readonly payload: Buffer
  /** All of it, header and end mark included. */
  readonly bytes: Buffer
}

/** Cuts one direction of a connection into frames, wherever the network cut it. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0)

  /** Frames that are complete with this chunk; throws when the bytes are not AMQP 0-9-1. */
  push(chunk: Buffer): readonly Frame[] {
    const data = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    const frames: Frame[] = []
    let at = 0
    for (;;) {
      const size = sizeOf(data, at)
      if (size === null || at + size > data.length) break
      frames.push(frameOf(data.subarray(at, at + size)))
      at += size
    }
    this.#rest = data.subarray(at)
    return frames
  }
}

/** Bytes of the frame that begins here; null while that cannot be known. */
function sizeOf(data: Buffer, at: number): number | null {
  if (data.length - at < HEADER_BYTES) return null
  if (PREFACE.equals(data.subarray(at, at + PREFACE.length))) return PREFACE_BYTES
  return HEADER_BYTES + data.readUInt32BE(at + 3) + 1
}

function frameOf(bytes: Buffer): Frame {
  if (PREFACE.equals(bytes.subarray(0, PREFACE.length))) {
    return { type: frameType.preface, channel: 0, payload: bytes, bytes }
  }
  if (bytes.at(-1) !== FRAME_END) throw new Error('a frame without its end mark: not AMQP 0-9-1')
  const payload = bytes.subarray(HEADER_BYTES, -1)
  return { type: bytes.readUInt8(0), channel: bytes.readUInt16BE(1), payload, bytes }
}

/** A frame of that type, ready to be written. */
export function encodeFrame(type: number, channel: number, payload: Buffer): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES + payload.length + 1)
  bytes.writeUInt8(type, 0)
  bytes.writeUInt16BE(channel, 1)
  bytes.writeUInt32BE(payload.length, 3)
  payload.copy(bytes, HEADER_BYTES)
  bytes.writeUInt8(FRAME_END, bytes.length - 1)
  return bytes
}
