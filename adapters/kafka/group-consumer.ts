import type { Deadline } from '../../src/contract/broker.ts'
import type { Clock, Random } from '../../src/contract/clock.ts'
import { HoldfastError } from '../../src/contract/errors.ts'
import type { Emit } from '../../src/contract/events.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import type {
  CommitOffset,
  CommittedOffset,
  ConsumerCallbacks,
  DriverConsumer,
  GroupSpec,
  TopicPartition,
  TransactResult,
} from './driver.ts'
import { Fetching } from './fetching.ts'
import { groupError } from './group-errors.ts'
import type { GroupLink, Member } from './group-link.ts'
import { ClusterGroupLink } from './cluster-group-link.ts'
import { Membership } from './membership.ts'
import type { Clusters } from './cluster.ts'
import type { KafkajsClient } from './options.ts'
import type { Decompress } from './record-batch.ts'
import type { Transactors, TransactionWork } from './transactor.ts'

/** What a consumer needs beside its group. */
export interface JoinOptions {
  readonly client: KafkajsClient | Clusters
  readonly clock: Clock
  readonly random: Random
  readonly emit: Emit
  readonly decompress: Decompress
  readonly requestTimeoutMs: number
  /** Makes its transactions; `null`: it has none. */
  readonly transactors?: Transactors | null
}

/** How often the leader looks whether topics have grown. */
const LOOK_MS = 60_000
/** How long leaving takes at most when nobody waits for it. */
const GIVEN_UP_MS = 1_000

/** Joins a group on connections of a client. Rejects, with nothing left open, when that does not work by the deadline or is given up. */
export async function joinGroup(
  options: JoinOptions,
  spec: GroupSpec,
  callbacks: ConsumerCallbacks,
  deadline: Deadline,
  signal?: AbortSignal,
): Promise<DriverConsumer> {
  const link = new ClusterGroupLink({ ...options, ...spec })
  const consumer = new GroupConsumer(link, { ...options, lookMs: LOOK_MS }, spec, callbacks)
  return consumer.opened(deadline, signal)
}

/** What a member needs, whatever its connections are. */
export interface GroupConsumerOptions extends Omit<JoinOptions, 'client'> {
  readonly lookMs: number
}

/**
 * A member of a group and a reader of its partitions. kafkajs's own consumer is not used: it holds its
 * heartbeats back while it fetches, joins anew for every leader that moves, commits under another
 * generation than the one that was asked for, and stops without a word.
 */
export class GroupConsumer implements DriverConsumer {
  readonly #link: GroupLink
  readonly #options: GroupConsumerOptions
  readonly #membership: Membership
  readonly #fetching: Fetching
  readonly transact?: NonNullable<DriverConsumer['transact']>
  #closing: Promise<void> | null = null

  constructor(
    link: GroupLink,
    options: GroupConsumerOptions,
    spec: GroupSpec,
    callbacks: ConsumerCallbacks,
  ) {
    const shared = { ...options, link, spec }
    this.#link = link
    this.#options = options
    const { transactors } = options
    if (transactors) {
      this.transact = async (epoch, rounds, offsets, deadline) => {
        const { groupId } = spec
        const work = (member: Member) => ({ rounds, groupId, member, offsets })
        return this.#transact(transactors, epoch, work, deadline)
      }
    }
    this.#fetching = new Fetching({
      ...shared,
      listener: callbacks,
      epoch: () => this.#membership.epoch,
    })
    this.#membership = new Membership({
      ...shared,
      listener: {
        readable: (parts) => this.#fetching.allow(parts),
        assigned: (epoch, parts) => callbacks.assigned(epoch, parts),
        revoking: (epoch) => callbacks.revoking(epoch),
        yielding: (epoch, parts, until) => callbacks.yielding(epoch, parts, until),
        lost: (epoch) => callbacks.lost(epoch),
        failed: (error) => callbacks.failed(error),
      },
    })
  }

  /** Resolves with itself when it has joined. */
  async opened(deadline: Deadline, signal?: AbortSignal): Promise<this> {
    const { clock, requestTimeoutMs } = this.#options
    const join = async (): Promise<void> => {
      await this.#link.open(deadline)
      await this.#membership.start(deadline)
    }
    try {
      await withDeadline(clock, deadline, join, 'joining the group', signal)
      return this
    } catch (error) {
      const patience = signal?.aborted === true ? GIVEN_UP_MS : requestTimeoutMs
      await this.close(clock.now() + patience)
      throw groupError('joining the group', error)
    }
  }

  subscribe(topics: readonly string[]): void {
    this.#membership.subscribe(topics)
  }

  renew(): void {
    this.#membership.renew()
  }

  pause(parts: readonly TopicPartition[]): void {
    this.#fetching.pause(parts)
  }

  resume(parts: readonly TopicPartition[]): void {
    this.#fetching.resume(parts)
  }

  seek(part: TopicPartition, offset: bigint): void {
    this.#fetching.seek(part, offset)
  }

  /** Under the generation of that very epoch: the broker itself refuses it when that is over. */
  async commit(epoch: number, offsets: readonly CommitOffset[], deadline: Deadline): Promise<void> {
    const member = this.#membership.memberOf(epoch)
    if (member === null) {
      const text = `the assignment that these offsets belong to (epoch ${epoch}) is over`
      throw new HoldfastError('aborted', text)
    }
    this.#checkNotJoining()
    try {
      await this.#link.commit(member, offsets, deadline)
    } catch (error) {
      this.#membership.heard(error, epoch)
      throw groupError('committing', error)
    }
  }

  async committed(
    parts: readonly TopicPartition[],
    deadline: Deadline,
  ): Promise<readonly CommittedOffset[]> {
    this.#checkNotJoining()
    try {
      return await this.#link.committed(parts, deadline)
    } catch (error) {
      this.#membership.heard(error, this.#membership.epoch)
      throw groupError('asking for offsets', error)
    }
  }

  /** Under the generation of that very epoch, which the broker itself looks at. */
  async #transact(
    transactors: Transactors,
    epoch: number,
    workOf: (member: Member) => TransactionWork,
    deadline: Deadline,
  ): Promise<TransactResult> {
    try {
      return await transactors.use(deadline, async (transactor) => {
        const member = this.#membership.memberOf(epoch)
        if (member === null) return 'aborted'
        const onAborted = (why: unknown): void => this.#aborted(why, epoch)
        return transactor.run(workOf(member), deadline, onAborted)
      })
    } catch (error) {
      // It was not even begun.
      this.#aborted(error, epoch)
      return 'aborted'
    }
  }

  #aborted(why: unknown, epoch: number): void {
    this.#membership.heard(why, epoch)
    const { emit } = this.#options
    if (!emit.wants('warning')) return
    const { message } = groupError('a transaction', why)
    emit({ type: 'warning', code: 'kafka.transaction-aborted', message })
  }

  close(deadline: Deadline): Promise<void> {
    this.#closing ??= this.#close(deadline)
    return this.#closing
  }

  /** A request would wait behind the join, and end that when it is not answered in time. */
  #checkNotJoining(): void {
    if (!this.#membership.isJoining) return
    throw new HoldfastError('unavailable', 'the group is being divided anew')
  }

  async #close(deadline: Deadline): Promise<void> {
    this.#fetching.close()
    await this.#membership.close(deadline)
    await this.#options.transactors?.close()
    await this.#link.close(deadline)
  }
}
