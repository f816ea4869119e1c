import { decodeGaps, encodeGaps } from './gap-code.ts'

/** How far a partition is beyond its committed offset. Places count from that offset on. */
export interface Progress {
  /** No record at or behind this place was handed to a handler by whoever committed it. */
  readonly handedTo: number
  /** Everything before this place is done, but for what is `open`. */
  readonly doneTo: number
  /** Places before `doneTo` that are not done, ascending. */
  readonly open: readonly number[]
}

/** Progress as text beside a committed offset. */
export interface EncodedProgress {
  readonly text: string
  /** How much of it is said: `doneTo` of what the text decodes to, less than was given when it did not fit. */
  readonly doneTo: number
  /** How much of the room for holes was wanted; more than 1 did not fit. */
  readonly share: number
}

/** What a broker takes as metadata of an offset, in bytes; its own default of `offset.metadata.max.bytes`. */
export const MOST_METADATA_BYTES = 4_096

/** Said beside the offset of a group that was declared, until its first consumer commits. */
export const DECLARED = 'holdfast:declared'

const UNTOUCHED: Progress = Object.freeze({ handedTo: 0, doneTo: 0, open: Object.freeze([]) })

/** First field of the text, so that nobody's own metadata is taken for ours. */
const MARK = 'holdfast1'
/** Bits of one character of base64. */
const BITS = 6
/** Length of the fields before the holes at their longest: four numbers, the mark, what is between. */
const LONGEST_HEAD = MARK.length + 4 * 14 + 1 + 5

/**
 * Writes what is known beyond the committed offset, at most `MOST_METADATA_BYTES` bytes: what does not
 * fit is left out from the far end, and comes again after a takeover.
 */
export function encodeProgress(offset: bigint, progress: Progress): EncodedProgress {
  const { handedTo, doneTo, open } = progress
  const head = `${MARK};${offset.toString(36)};${handedTo.toString(36)}`
  const isPlain = doneTo <= 0 || open.length === 0
  if (isPlain)
    return { text: doneTo > 0 ? `${head};${doneTo.toString(36)}` : head, doneTo, share: 0 }
  const room = (MOST_METADATA_BYTES - LONGEST_HEAD) * BITS
  const { bytes, rest, count, bits } = encodeGaps(open, room)
  const said = count === open.length ? doneTo : (open[count] as number)
  const fields = [said.toString(36), count.toString(36), rest.toString(36)]
  const text = `${head};${fields.join(';')};${Buffer.from(bytes).toString('base64url')}`
  return { text, doneTo: said, share: bits / room }
}

/**
 * Reads what was written beside that very offset; `null` for everything else: no metadata, somebody
 * else's, or ours beside another offset, be it that an operator moved it.
 */
export function decodeProgress(offset: bigint, metadata: string | null): Progress | null {
  if (metadata === DECLARED) return UNTOUCHED
  const fields = metadata?.split(';')
  if (fields?.[0] !== MARK || fields[1] !== offset.toString(36)) return null
  const [handedTo, doneTo = 0, count = 0, rest = 0] = [2, 3, 4, 5].map((at) => {
    return fields[at] === undefined ? undefined : numberOf(fields[at])
  })
  if (handedTo === undefined || [handedTo, doneTo, count, rest].includes(Number.NaN)) return null
  const open = decodeGaps(Buffer.from(fields[6] ?? '', 'base64url'), rest, count)
  return open === null ? null : { handedTo, doneTo, open }
}

function numberOf(text: string): number {
  return /^[0-9a-z]{1,11}$/.test(text) ? Number.parseInt(text, 36) : Number.NaN
}
