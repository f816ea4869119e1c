/** Compresses one block of LZ4; returns its length, 0 when it would not get smaller. */
export interface Lz4Block {
  compressBlock(
    from: Uint8Array,
    to: Uint8Array,
    at: number,
    length: number,
    hashTable: Uint32Array,
  ): number
  compressBound(length: number): number
}

/**
 * Magic number and descriptor: version 1, independent blocks of at most 4 MB, and the checksum of that.
 * Kafka takes no others than independent blocks, which the package itself does not write.
 */
const HEAD = Buffer.from([0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73])
const END = Buffer.alloc(4)
const BLOCK = 4 * 1024 * 1024
const NOT_COMPRESSED = 0x80000000
const HASH_TABLE = 1 << 16

/** An LZ4 frame as Kafka's brokers and clients read it. */
export function frameLz4(bytes: Buffer, library: Lz4Block): Buffer {
  const parts: Buffer[] = [HEAD]
  const table = new Uint32Array(HASH_TABLE)
  const scratch = Buffer.allocUnsafe(library.compressBound(Math.min(BLOCK, bytes.length)))
  for (let at = 0; at < bytes.length; at += BLOCK) {
    const block = bytes.subarray(at, at + BLOCK)
    table.fill(0)
    const size = library.compressBlock(block, scratch, 0, block.length, table)
    const isSmaller = size > 0 && size < block.length
    const length = Buffer.allocUnsafe(4)
    length.writeUInt32LE(isSmaller ? size : (block.length | NOT_COMPRESSED) >>> 0)
    parts.push(length, isSmaller ? Buffer.from(scratch.subarray(0, size)) : block)
  }
  parts.push(END)
  return Buffer.concat(parts)
}
