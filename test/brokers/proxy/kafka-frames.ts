const SIZE_BYTES = 4
/** More than any broker of the tests takes: whoever says so speaks something else. */
const LARGEST = 256 * 1024 * 1024

/** Cuts one direction of a connection into frames of Kafka, size included, wherever the network cut it. */
export class FrameReader {
  readonly #chunks: Buffer[] = []
  #length = 0

  /** Frames that are complete with this chunk; throws when the bytes are not Kafka's. */
  push(chunk: Buffer): readonly Buffer[] {
    this.#chunks.push(chunk)
    this.#length += chunk.length
    const frames: Buffer[] = []
    for (let size = this.#size(); size !== null && size <= this.#length; size = this.#size()) {
      frames.push(this.#take(size))
    }
    return frames
  }

  /** Bytes of the frame that comes first; null while that cannot be known. */
  #size(): number | null {
    if (this.#length < SIZE_BYTES) return null
    if (this.#chunks[0]!.length < SIZE_BYTES) this.#join()
    const size = this.#chunks[0]!.readInt32BE()
    if (size < 0 || size > LARGEST) throw new Error(`a frame of ${size} bytes: not Kafka`)
    return SIZE_BYTES + size
  }

  #take(size: number): Buffer {
    if (this.#chunks[0]!.length < size) this.#join()
    const first = this.#chunks[0]!
    if (first.length === size) this.#chunks.shift()
    else this.#chunks[0] = first.subarray(size)
    this.#length -= size
    return first.subarray(0, size)
  }

  #join(): void {
    this.#chunks.splice(0, this.#chunks.length, Buffer.concat(this.#chunks))
  }
}
