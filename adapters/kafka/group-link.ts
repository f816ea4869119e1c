import type { Deadline } from '../../src/contract/broker.ts'
import type { CommitOffset, CommittedOffset, LogRange, TopicPartition } from './driver.ts'
import type { FetchAnswers, FetchLimits, FetchPart } from './fetch-protocol.ts'

/** Who we are in the group, and since which of its generations. */
export interface Member {
  readonly id: string
  readonly generation: number
}

/** What a join brings. */
export interface Joined {
  readonly member: Member
  readonly isLeader: boolean
  /** Name of the assigner that all members know. */
  readonly protocol: string
  /** Everybody, where this is the leader. */
  readonly members: readonly { readonly id: string; readonly metadata: Buffer }[]
}

/** An assigner's name, and what we say of ourselves to the one who divides by it. */
export interface GroupProtocol {
  readonly name: string
  readonly metadata: Buffer
}

/** Leaders by partition of a topic; -1: none at present. */
export type Leaders = ReadonlyMap<number, number>

/** Connections that are made with the first heartbeat, to say nothing else on them. */
export interface HeartbeatLink {
  heartbeat(member: Member, deadline: Deadline): Promise<void>
  /** Ends all connections. Never rejects. */
  close(deadline: Deadline): Promise<void>
}

/**
 * Connections of one consumer: the requests a member of a group makes. Every one ends by its deadline,
 * and rejects with what the client says; `troubleOf` reads it.
 */
export interface GroupLink {
  open(deadline: Deadline): Promise<void>
  join(memberId: string, protocols: readonly GroupProtocol[], deadline: Deadline): Promise<Joined>
  /** `assignments`: for everybody, by the leader; else empty. Resolves with our own. */
  sync(
    member: Member,
    assignments: ReadonlyMap<string, Buffer>,
    deadline: Deadline,
  ): Promise<Buffer>
  heartbeat(member: Member, deadline: Deadline): Promise<void>
  /** For heartbeats while a join waits: behind that nothing is answered here. */
  beside(): HeartbeatLink
  leave(member: Member, deadline: Deadline): Promise<void>
  commit(member: Member, offsets: readonly CommitOffset[], deadline: Deadline): Promise<void>
  committed(
    parts: readonly TopicPartition[],
    deadline: Deadline,
  ): Promise<readonly CommittedOffset[]>
  /** The coordinator did not answer, or is another one: the next request looks for it. */
  forgetCoordinator(): void
  /** Looks up partitions and leaders of these topics, and of all it was asked for before. */
  refresh(topics: readonly string[], deadline: Deadline): Promise<void>
  /** As far as is known; `null`: there is no such topic. */
  leadersOf(topic: string): Leaders | null
  fetch(
    node: number,
    parts: readonly FetchPart[],
    limits: FetchLimits,
    deadline: Deadline,
  ): Promise<FetchAnswers>
  /** What the log of a partition has. */
  logOf(part: TopicPartition, deadline: Deadline): Promise<LogRange>
  /** Cuts the connections to a node that hangs; they are made again when they are needed. */
  cut(node: number): void
  /** Ends all connections, in order as long as there is time. Never rejects. */
  close(deadline: Deadline): Promise<void>
}
