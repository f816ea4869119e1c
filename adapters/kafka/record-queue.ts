import type { FetchedRecord, RecordHeaders } from './driver.ts'

/** What a record costs beside its bytes. */
const OVERHEAD_BYTES = 256

/** Records of one batch, and where reading goes on behind them. */
interface Chunk {
  records: readonly FetchedRecord[]
  /** The next of `records` to be taken. */
  at: number
  readonly next: bigint
  /** When it came. */
  readonly seenAt: number
  isDetached: boolean
}

/** Records of one partition that were read and not handed out, in their order. */
export class RecordQueue {
  readonly #chunks: Chunk[] = []
  #bytes = 0
  /** Chunks of the last look that were there already. */
  #old = 0

  /** What they cost in memory, about. */
  get bytes(): number {
    return this.#bytes
  }

  get isEmpty(): boolean {
    return this.#chunks.length === 0
  }

  /** `seenAt`: the instant at which they came. */
  add(records: readonly FetchedRecord[], next: bigint, seenAt: number): void {
    this.#chunks.push({ records, at: 0, next, seenAt, isDetached: false })
    for (const record of records) this.#bytes += costOf(record)
  }

  /** The first record; `undefined` when there is none, though there may be an end of a batch. */
  get first(): FetchedRecord | undefined {
    const chunk = this.#chunks[0]
    return chunk?.records[chunk.at]
  }

  /** When the first record came. */
  get firstSeenAt(): number {
    return (this.#chunks[0] as Chunk).seenAt
  }

  removeFirst(): void {
    const chunk = this.#chunks[0] as Chunk
    this.#bytes -= costOf(chunk.records[chunk.at] as FetchedRecord)
    chunk.at++
  }

  /** Removes the first batch if nothing of it is left, and says where reading goes on behind it. */
  passEnd(): bigint | null {
    const [chunk] = this.#chunks
    if (chunk === undefined || chunk.at < chunk.records.length) return null
    this.#chunks.shift()
    if (this.#old > 0) this.#old--
    return chunk.next
  }

  clear(): void {
    this.#chunks.length = 0
    this.#bytes = 0
    this.#old = 0
  }

  /** Whatever has been here since the last call gets bytes of its own: as views, few of them keep a whole answer in memory. */
  detachOld(): void {
    for (let index = 0; index < this.#old; index++) {
      const chunk = this.#chunks[index] as Chunk
      if (chunk.isDetached) continue
      chunk.records = chunk.records.slice(chunk.at).map(detached)
      chunk.at = 0
      chunk.isDetached = true
    }
    this.#old = this.#chunks.length
  }
}

/** Length of a record's key, value and headers. */
export function bytesOf(record: FetchedRecord): number {
  if (record.bytes !== undefined) return record.bytes
  const { key, value, headers } = record
  let sum = (key?.length ?? 0) + (value?.length ?? 0)
  for (const [name, content] of headers) sum += name.length + (content?.length ?? 0)
  return sum
}

function costOf(record: FetchedRecord): number {
  return OVERHEAD_BYTES + bytesOf(record)
}

function detached(record: FetchedRecord): FetchedRecord {
  if (record.detached !== undefined) return record.detached()
  const { offset, key, value, headers, timestampMs } = record
  const copied: RecordHeaders = headers.map(([name, bytes]) => [name, bytes && Buffer.from(bytes)])
  return {
    offset,
    key: key && Buffer.from(key),
    value: value && Buffer.from(value),
    headers: copied,
    timestampMs,
  }
}
