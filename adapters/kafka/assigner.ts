import type { TopicPartition } from './driver.ts'
import type { MemberClaim } from './group-protocol.ts'

/** A member of the group as its leader sees it. */
export interface GroupMember extends MemberClaim {
  readonly id: string
}

/**
 * asking: what is to move from one member to another is given to nobody this time, so that its owner can
 * finish and commit first; it joins again then, and the new owner gets it. at-once: for groups with
 * members that know no asking.
 */
export type Handover = 'asking' | 'at-once'

/** What each member gets. */
export type Assignments = ReadonlyMap<string, readonly TopicPartition[]>

/**
 * Divides the partitions among the members that want their topic: evenly topic by topic, evenly in all
 * as far as that allows, and leaves with its owner what need not move.
 */
export function assign(
  members: readonly GroupMember[],
  partitions: ReadonlyMap<string, readonly number[]>,
  handover: Handover,
): Assignments {
  const given = new Map(members.map(({ id }) => [id, [] as TopicPartition[]]))
  const loads = new Map(members.map(({ id }) => [id, 0]))
  for (const topic of [...partitions.keys()].sort()) {
    const wanting = members.filter(({ topics }) => topics.includes(topic)).map(({ id }) => id)
    if (wanting.length === 0) continue
    const owners = ownersOf(topic, members)
    const targets = targetsOf(partitions.get(topic) ?? [], wanting.sort(), owners, loads)
    for (const [partition, id] of targets) {
      loads.set(id, (loads.get(id) ?? 0) + 1)
      const owner = owners.get(partition)
      // Also an owner that does not want the topic any more is asked first.
      if (handover === 'asking' && owner !== undefined && owner !== id) continue
      given.get(id)?.push({ topic, partition })
    }
  }
  return given
}

/** Of two that claim the same, the one with the later generation has it: the other was away meanwhile. */
function ownersOf(topic: string, members: readonly GroupMember[]): ReadonlyMap<number, string> {
  const owners = new Map<number, GroupMember>()
  for (const member of members) {
    for (const one of member.owned) {
      if (one.topic !== topic) continue
      const other = owners.get(one.partition)
      if (other === undefined || other.generation < member.generation) {
        owners.set(one.partition, member)
      }
    }
  }
  return new Map([...owners].map(([partition, { id }]) => [partition, id]))
}

/** Who shall have which partition of a topic, in order of the partitions. */
function targetsOf(
  partitions: readonly number[],
  wanting: readonly string[],
  owners: ReadonlyMap<number, string>,
  loads: ReadonlyMap<string, number>,
): ReadonlyMap<number, string> {
  const room = roomOf(partitions, wanting, owners, loads)
  const targets = new Map<number, string | null>()
  for (const partition of partitions) {
    const owner = owners.get(partition)
    const keeps = owner !== undefined && (room.get(owner) ?? 0) > 0
    if (keeps) room.set(owner, (room.get(owner) as number) - 1)
    targets.set(partition, keeps ? owner : null)
  }
  for (const [partition, target] of targets) {
    if (target !== null) continue
    const [id, left] = [...room].find(([, free]) => free > 0) as [string, number]
    room.set(id, left - 1)
    targets.set(partition, id)
  }
  return targets as Map<number, string>
}

/** How many partitions each member gets: what does not divide goes to whoever has least, then to who has more of this topic. */
function roomOf(
  partitions: readonly number[],
  wanting: readonly string[],
  owners: ReadonlyMap<number, string>,
  loads: ReadonlyMap<string, number>,
): Map<string, number> {
  const each = Math.floor(partitions.length / wanting.length)
  const has = new Map<string, number>()
  for (const partition of partitions) {
    const owner = owners.get(partition)
    if (owner !== undefined) has.set(owner, (has.get(owner) ?? 0) + 1)
  }
  const byClaim = [...wanting].sort((one, other) => {
    const byLoad = (loads.get(one) ?? 0) - (loads.get(other) ?? 0)
    return byLoad !== 0 ? byLoad : (has.get(other) ?? 0) - (has.get(one) ?? 0)
  })
  const more = new Set(byClaim.slice(0, partitions.length % wanting.length))
  return new Map(wanting.map((id) => [id, each + (more.has(id) ? 1 : 0)]))
}
