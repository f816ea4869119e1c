import { isHoldfastError } from '../../src/contract/errors.ts'
import type { Finding } from '../../src/contract/topology.ts'
import type { CommittedOffset, DriverAdmin, PartitionOffset } from './driver.ts'
import { DECLARED } from './offset-metadata.ts'

/** What a group is anchored by. */
export type AnchorAdmin = Pick<DriverAdmin, 'offsets' | 'groupOffsets' | 'setGroupOffsets'>

/** A group of a topic, by Kafka's names. */
export interface AnchoredGroup {
  readonly topic: string
  readonly groupId: string
  /** It was declared before, whatever is known of its offsets. */
  readonly isKnown: boolean
}

/**
 * Commits where a group starts in the partitions that have no offset of it: a new group at their ends, so
 * that it gets everything from now on; one that was declared before at their beginnings, since what it has
 * not read may be there. Changes no offset that is there. Only for topics that exist.
 */
export async function anchor(
  admin: AnchorAdmin,
  { topic, groupId, isKnown }: AnchoredGroup,
): Promise<readonly Finding[]> {
  // In this order: ends that were looked up before the group was seen without offsets are not beyond
  // anything published after somebody else declared it.
  const ends = await admin.offsets(topic, 'latest')
  const committed = await admin.groupOffsets(groupId, topic)
  const missing = partitionsWithout(committed)
  if (missing.size === 0) return []
  const isNew = !isKnown && missing.size === committed.length
  const starts = isNew ? ends : await admin.offsets(topic, 'earliest')
  const offsets = starts
    .filter(({ partition }) => missing.has(partition))
    .map((one) => ({ ...one, metadata: DECLARED }))
  const isSet = await setUnlessBusy(admin, groupId, topic, offsets)
  const isExpired = isSet && isKnown && missing.size === committed.length
  return isExpired ? [expired(groupId, topic)] : []
}

/** What of a group is missing or was lost, without changing anything. */
export async function lookAtAnchor(
  admin: AnchorAdmin,
  { topic, groupId, isKnown }: AnchoredGroup,
): Promise<readonly Finding[]> {
  const committed = await admin.groupOffsets(groupId, topic)
  const isEmpty = partitionsWithout(committed).size === committed.length
  if (isEmpty) return isKnown && committed.length > 0 ? [expired(groupId, topic)] : []
  const begins = await admin.offsets(topic, 'earliest')
  return begins.flatMap((begin) => lossOf(groupId, begin, committed))
}

/**
 * Puts a group that was declared and never consumed to the beginnings of its partitions. Does nothing for
 * one that has consumed, or is consuming.
 */
export async function rewind(admin: AnchorAdmin, groupId: string, topic: string): Promise<void> {
  const committed = await admin.groupOffsets(groupId, topic)
  if (committed.some(({ offset, metadata }) => offset !== null && metadata !== DECLARED)) return
  const begins = await admin.offsets(topic, 'earliest')
  const offsets = begins.map((one) => ({ ...one, metadata: DECLARED }))
  await setUnlessBusy(admin, groupId, topic, offsets)
}

/** Members commit for themselves where they start. */
async function setUnlessBusy(
  admin: AnchorAdmin,
  groupId: string,
  topic: string,
  offsets: readonly PartitionOffset[],
): Promise<boolean> {
  try {
    await admin.setGroupOffsets(groupId, topic, offsets)
    return true
  } catch (error) {
    if (isHoldfastError(error) && error.code === 'busy') return false
    throw error
  }
}

function partitionsWithout(committed: readonly CommittedOffset[]): ReadonlySet<number> {
  return new Set(
    committed.filter(({ offset }) => offset === null).map(({ partition }) => partition),
  )
}

function expired(groupId: string, topic: string): Finding {
  return {
    severity: 'warning',
    code: 'kafka.offsets-expired',
    subject: groupId,
    message: `the group was declared before, and has no offsets in topic "${topic}" any more: it had no members for longer than offsets.retention.minutes, or somebody deleted them. It starts at the oldest message that is kept, so that none is skipped; finished ones come again`,
  }
}

function lossOf(
  groupId: string,
  begin: PartitionOffset,
  committed: readonly CommittedOffset[],
): readonly Finding[] {
  const own = committed.find(({ partition }) => partition === begin.partition)
  const offset = own?.offset ?? null
  if (own === undefined || offset === null || offset >= begin.offset) return []
  return [
    {
      severity: 'error',
      code: 'kafka.data-loss',
      subject: groupId,
      message: `partition ${begin.partition} of topic "${own.topic}" begins at ${begin.offset}, and the group has read up to ${offset}: ${begin.offset - offset} offsets were deleted before they were consumed`,
      declared: `${offset} or less`,
      found: String(begin.offset),
    },
  ]
}
