import { askCoordinator, removeMembers } from './kafka-ask.ts'
import type { KafkaNode } from './kafka-node.ts'
import { withAdmin } from './kafka-topics.ts'

/** Ids of the members of a group at present, whether they have joined or are about to. */
export async function membersOf(
  nodes: readonly KafkaNode[],
  groupId: string,
): Promise<readonly string[]> {
  const brokers = nodes.map(({ broker }) => broker)
  const { groups } = await withAdmin(brokers, (admin) => admin.describeGroups([groupId]))
  return groups.flatMap(({ members }) => members.map(({ memberId }) => memberId))
}

/** Takes every member out of the group without asking it; returns who they were. */
export async function expelMembers(
  nodes: readonly KafkaNode[],
  groupId: string,
): Promise<readonly string[]> {
  const memberIds = await membersOf(nodes, groupId)
  if (memberIds.length === 0) return []
  const coordinator = await Promise.any(
    nodes.map(({ address }) => askCoordinator(address.ports.clients, groupId)),
  )
  const { ports } = nodes.find(({ id }) => id === coordinator)!.address
  await removeMembers(ports.clients, groupId, memberIds)
  return memberIds
}
