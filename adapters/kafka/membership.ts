import type { Deadline } from '../../src/contract/broker.ts'
import type { Clock, Random } from '../../src/contract/clock.ts'
import type { Emit } from '../../src/contract/events.ts'
import { exponential } from '../../src/policy/backoff.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import { Wake } from '../../src/policy/wake.ts'
import { assign, type GroupMember } from './assigner.ts'
import type { ConsumerCallbacks, GroupSpec, TopicPartition } from './driver.ts'
import { groupError, troubleOf, type GroupTrouble } from './group-errors.ts'
import type { GroupLink, Joined, Member } from './group-link.ts'
import { JoinWatch } from './join-watch.ts'
import { nameOf } from './part-name.ts'
import { decodeAssignment, decodeClaim, encodeAssignment, encodeClaim } from './group-protocol.ts'

/** What membership tells of itself. */
export interface MembershipListener extends Pick<
  ConsumerCallbacks,
  'assigned' | 'revoking' | 'yielding' | 'lost' | 'failed'
> {
  /** Called before `assigned` and `lost`: what may be read. */
  readable(parts: readonly TopicPartition[]): void
}

/** What a membership needs. */
export interface MembershipOptions {
  readonly link: GroupLink
  readonly spec: GroupSpec
  readonly clock: Clock
  readonly random: Random
  readonly emit: Emit
  readonly listener: MembershipListener
  /** Any other request to the coordinator. */
  readonly requestTimeoutMs: number
  /** How often the leader looks whether topics have grown. */
  readonly lookMs: number
}

/** Our own assigner, and the one kafkajs has when nobody asks for another. */
const OURS = 'holdfast'
const THEIRS = 'RoundRobinAssigner'

/** What a join may take beyond the time that members have to come back. */
const GRACE_MS = 5_000
/** Most time for a last commit before joining again. */
const COMMIT_MS = 1_000

/** So often in a row a join that was overtaken by another is tried without waiting. */
const AT_ONCE = 3

const backoff = exponential({ initialMs: 50, maxMs: 3_000 })

/** How staying in the group ended. */
type Left = 'join-again' | 'closed'

/**
 * Membership in a consumer group, by the classic protocol: joins, says that it is alive on a timer of its
 * own, gives up what others are to get only after it was finished, and knows by its own clock when the
 * group must have given it up.
 */
export class Membership {
  readonly #options: MembershipOptions
  readonly #wake: Wake
  #topics: readonly string[]
  #memberId = ''
  #generation = -1
  #epoch = 0
  /** What is ours and what is still being given up, by name. */
  #owned = new Map<string, TopicPartition>()
  /** What was assigned last, by name. */
  #assigned = new Map<string, TopicPartition>()
  readonly #yielding = new Map<string, TopicPartition>()
  #heardAt = 0
  #lookAt = Number.POSITIVE_INFINITY
  /** Topics that were divided, and what they were, where this is the leader. */
  #divided: readonly string[] = []
  #layout = ''
  #wantsJoin = false
  #isJoining = false
  /** As whom the coordinator knows us while a join is not at its end. */
  #joined: Member | null = null
  #watch: JoinWatch | null = null
  /** Something was lost since the last join said what is ours. */
  #hasLost = false
  #isClosed = false
  #running: Promise<void> = Promise.resolve()

  constructor(options: MembershipOptions) {
    this.#options = options
    this.#wake = new Wake(options.clock)
    this.#topics = options.spec.topics
  }

  /** The last assignment's number; 0: none yet, or lost. */
  get epoch(): number {
    return this.#epoch
  }

  /** Who we are to the coordinator; `null` when that epoch is over. */
  memberOf(epoch: number): Member | null {
    if (epoch !== this.#epoch || this.#generation < 0) return null
    return { id: this.#memberId, generation: this.#generation }
  }

  /** Waiting for everybody to come back: the coordinator answers nothing else meanwhile. */
  get isJoining(): boolean {
    return this.#isJoining
  }

  /** What the coordinator said to another request of that epoch. */
  heard(error: unknown, epoch: number): void {
    const trouble = troubleOf(error)
    if (trouble === 'moved') this.#options.link.forgetCoordinator()
    // The next heartbeat says which of them it is.
    if (mustJoin(trouble) && epoch === this.#epoch) this.#wake.ring()
  }

  /** Joins, and goes on until `close`. Rejects when the group does not take us by the deadline. */
  async start(deadline: Deadline): Promise<void> {
    this.#heardAt = this.#options.clock.now()
    await this.#join(deadline)
    this.#running = this.#run().catch((error: unknown) => this.#fail(error))
  }

  /** Joins again for other topics. */
  subscribe(topics: readonly string[]): void {
    this.#topics = topics
    this.#joinAgain()
  }

  /** Joins again for another generation. */
  renew(): void {
    this.#joinAgain()
  }

  /** Nothing new begins. */
  stop(): void {
    this.#isClosed = true
    this.#watch?.end()
    this.#wake.ring()
  }

  /** Leaves the group. Never rejects. */
  async close(deadline: Deadline): Promise<void> {
    this.stop()
    const { link, clock } = this.#options
    const member = { id: this.#memberId, generation: this.#generation }
    if (member.id !== '') await link.leave(member, deadline).catch(() => undefined)
    const ending = withDeadline(clock, deadline, () => this.#running, 'leaving the group')
    await ending.catch(() => undefined)
  }

  async #run(): Promise<void> {
    while ((await this.#stay()) === 'join-again') {
      try {
        await this.#join(Number.POSITIVE_INFINITY)
      } catch (error) {
        return this.#fail(error)
      }
      if (this.#isClosed) return
    }
  }

  #fail(error: unknown): void {
    if (this.#isClosed) return
    this.#lose()
    this.#options.listener.failed(groupError('joining the group', error))
  }

  /** Until the group is to be joined again. */
  async #stay(): Promise<Left> {
    const { clock } = this.#options
    for (let failures = 0; ;) {
      const beatAt = clock.now() + this.#pauseMs(failures)
      await this.#wake.sleep(Math.min(beatAt, this.#endsAt) - clock.now())
      if (this.#isClosed) return 'closed'
      if (this.#wantsJoin) return 'join-again'
      this.#tellOfDelay(clock.now() - beatAt)
      // The group hears of us while a node that is silent is asked for the topics.
      void this.#look()
      const sentAt = clock.now()
      try {
        await this.#beat()
        this.#heardAt = sentAt
        failures = 0
      } catch (error) {
        if (this.#isClosed) return 'closed'
        failures++
        const isOver = this.#judge(error, sentAt) || this.#isOverdue()
        if (isOver || this.#wantsJoin) return 'join-again'
      }
    }
  }

  /** When the group takes us for dead, unless it hears of us. */
  get #endsAt(): number {
    return this.#heardAt + this.#options.spec.sessionTimeoutMs
  }

  #pauseMs(failures: number): number {
    const { spec, random } = this.#options
    if (this.#wantsJoin) return 0
    if (failures === 0) return spec.heartbeatIntervalMs
    return Math.min(spec.heartbeatIntervalMs, backoff.delayFor(failures, random))
  }

  #beat(): Promise<void> {
    const { link, clock, requestTimeoutMs, spec } = this.#options
    const withinMs = Math.min(requestTimeoutMs, spec.sessionTimeoutMs / 3)
    const member = { id: this.#memberId, generation: this.#generation }
    return link.heartbeat(member, Math.min(clock.now() + withinMs, this.#endsAt))
  }

  /** true: the group has to be joined again. What is lost by that is given up. `heardAt`: the coordinator knew of us then. */
  #judge(error: unknown, heardAt: number): boolean {
    const { link } = this.#options
    switch (troubleOf(error)) {
      case 'rebalance':
        this.#heardAt = heardAt
        return true
      case 'overtaken':
        this.#lose()
        return true
      case 'fenced':
        this.#lose()
        // A valid one is kept: who comes as somebody else leaves a member behind that all others wait for.
        this.#memberId = ''
        return true
      case 'moved':
        link.forgetCoordinator()
        return false
      case 'too-large':
      case 'forbidden':
      case 'passing':
        return false
    }
  }

  /** Nobody has heard of us for so long that others have what was ours. */
  #isOverdue(): boolean {
    if (this.#options.clock.now() < this.#endsAt) return false
    this.#lose()
    return true
  }

  async #join(deadline: Deadline): Promise<void> {
    this.#wantsJoin = false
    if (this.#generation < 0) return this.#joinUntil(deadline)
    const watch = this.#watchJoin()
    this.#watch = watch
    try {
      await this.#commitNow()
      await this.#joinUntil(deadline)
    } finally {
      watch.end()
      this.#watch = null
    }
  }

  #watchJoin(): JoinWatch {
    const { link, clock, spec } = this.#options
    return new JoinWatch({
      ...{ link, clock, sessionTimeoutMs: spec.sessionTimeoutMs },
      member: () => this.#joined ?? { id: this.#memberId, generation: this.#generation },
      heardAt: () => this.#heardAt,
      heard: (at) => (this.#heardAt = Math.max(this.#heardAt, at)),
      lost: () => this.#lose(),
    })
  }

  async #joinUntil(deadline: Deadline): Promise<void> {
    const { clock, random, spec } = this.#options
    const longestMs = Math.max(spec.sessionTimeoutMs, spec.rebalanceTimeoutMs + GRACE_MS)
    for (let failures = 1; !this.#isClosed; failures++) {
      try {
        return await this.#round(Math.min(deadline, clock.now() + longestMs))
      } catch (error) {
        const trouble = troubleOf(error)
        if (trouble === 'forbidden' || clock.now() >= deadline || this.#isClosed) throw error
        this.#judge(error, clock.now())
        this.#isOverdue()
        if (!mustJoin(trouble) || failures > AT_ONCE)
          await this.#wake.sleep(backoff.delayFor(failures, random))
      }
    }
  }

  /** One join and the assignment that comes of it. */
  async #round(deadline: Deadline): Promise<void> {
    const { link, clock, requestTimeoutMs } = this.#options
    const owned = [...this.#owned.values()]
    this.#hasLost = false
    this.#joined = null
    const topics = this.#topics
    const metadata = encodeClaim({ topics, generation: this.#generation, owned })
    const protocols = [OURS, THEIRS].map((name) => ({ name, metadata }))
    this.#isJoining = true
    const joining = link.join(this.#memberId, protocols, deadline)
    const joined = await joining.finally(() => (this.#isJoining = false))
    // It may have lain here for long.
    this.#isOverdue()
    this.#memberId = joined.member.id
    this.#joined = joined.member
    this.#heardAt = clock.now()
    this.#lookAt = Number.POSITIVE_INFINITY
    const assignments = joined.isLeader ? await this.#divide(joined) : new Map<string, Buffer>()
    const syncBy = Math.min(deadline, clock.now() + Math.max(requestTimeoutMs, GRACE_MS))
    const assignment = await link.sync(joined.member, assignments, syncBy)
    this.#heardAt = clock.now()
    this.#generation = joined.member.generation
    this.#joined = null
    if (!this.#isClosed) this.#take(decodeAssignment(assignment), joined.protocol === OURS)
    // Others wait for what we said is ours, and was lost since.
    if (this.#hasLost) this.#joinAgain()
  }

  /** As the leader: who gets what. */
  async #divide({ members, protocol }: Joined): Promise<ReadonlyMap<string, Buffer>> {
    const claims = members.map(({ id, metadata }): GroupMember => {
      return { id, ...decodeClaim(metadata) }
    })
    const topics = [...new Set(claims.flatMap((one) => one.topics))].sort()
    const partitions = await this.#partitionsOf(topics)
    this.#divided = topics
    this.#layout = layoutOf(partitions)
    this.#lookAt = this.#options.clock.now() + this.#options.lookMs
    const given = assign(claims, partitions, protocol === OURS ? 'asking' : 'at-once')
    return new Map([...given].map(([id, parts]) => [id, encodeAssignment(parts)]))
  }

  async #partitionsOf(topics: readonly string[]): Promise<Map<string, readonly number[]>> {
    const { link, clock, requestTimeoutMs, spec } = this.#options
    // The group waits for the leader's word, and takes it for dead after a session.
    const withinMs = Math.min(requestTimeoutMs, spec.sessionTimeoutMs / 3)
    await link.refresh(topics, clock.now() + withinMs)
    const partitions = new Map<string, readonly number[]>()
    for (const topic of topics) {
      const leaders = link.leadersOf(topic)
      if (leaders !== null)
        partitions.set(
          topic,
          [...leaders.keys()].sort((one, two) => one - two),
        )
    }
    return partitions
  }

  /** Every so often the leader looks whether there are more partitions to divide. Never rejects. */
  async #look(): Promise<void> {
    const { clock, lookMs } = this.#options
    if (clock.now() < this.#lookAt) return
    this.#lookAt = clock.now() + lookMs
    try {
      const partitions = await this.#partitionsOf(this.#divided)
      if (layoutOf(partitions) !== this.#layout) this.#joinAgain()
    } catch {
      // The next look will tell.
    }
  }

  /** `asks`: what is not ours any more is nobody's until we have given it up. */
  #take(parts: readonly TopicPartition[], asks: boolean): void {
    const { listener } = this.#options
    this.#epoch++
    this.#assigned = byName(parts)
    const going = [...this.#owned].filter(([name]) => !this.#assigned.has(name))
    this.#owned = new Map([...this.#assigned, ...(asks ? going : [])])
    const all = [...this.#owned.values()]
    listener.readable(all)
    listener.assigned(this.#epoch, all)
    const asked = asks ? going.filter(([name]) => !this.#yielding.has(name)) : []
    if (asked.length > 0) void this.#yield(new Map(asked))
  }

  /** Gives partitions up when they are finished, and joins again so that others get them. */
  async #yield(going: ReadonlyMap<string, TopicPartition>): Promise<void> {
    const { listener, clock, spec } = this.#options
    for (const [name, part] of going) this.#yielding.set(name, part)
    const epoch = this.#epoch
    const deadline = clock.now() + spec.rebalanceTimeoutMs
    const give = (): Promise<void> => listener.yielding(epoch, [...going.values()], deadline)
    await withDeadline(clock, deadline, give, 'giving partitions up').catch(() => undefined)
    for (const name of going.keys()) {
      this.#yielding.delete(name)
      this.#owned.delete(name)
    }
    if (this.#isClosed || this.#generation < 0) return
    listener.readable([...this.#owned.values()])
    // What was given back to us meanwhile begins anew, and is not paused any more.
    for (const name of going.keys()) {
      const part = this.#assigned.get(name)
      if (part !== undefined) this.#owned.set(name, part)
    }
    const all = [...this.#owned.values()]
    listener.readable(all)
    listener.assigned(this.#epoch, all)
    this.#joinAgain()
  }

  #lose(): void {
    const { listener } = this.#options
    if (this.#generation < 0) return
    const epoch = this.#epoch
    this.#generation = -1
    this.#hasLost = true
    this.#watch?.end()
    this.#owned.clear()
    this.#assigned.clear()
    listener.readable([])
    listener.lost(epoch)
  }

  async #commitNow(): Promise<void> {
    const { clock, listener } = this.#options
    const commit = (): Promise<void> => listener.revoking(this.#epoch)
    const deadline = clock.now() + COMMIT_MS
    await withDeadline(clock, deadline, commit, 'committing').catch(() => undefined)
  }

  #joinAgain(): void {
    this.#wantsJoin = true
    this.#wake.ring()
  }

  /** A process that is busy for that long is about to be thought dead. */
  #tellOfDelay(lateMs: number): void {
    const { emit, spec } = this.#options
    if (lateMs < spec.sessionTimeoutMs / 3 || !emit.wants('warning')) return
    const message = `a heartbeat of group "${spec.groupId}" was due ${Math.round(lateMs)} ms ago: something kept the event loop busy. After ${spec.sessionTimeoutMs} ms the group takes this consumer for dead`
    emit({ type: 'warning', code: 'kafka.event-loop-busy', message })
  }
}

/** Nothing but joining again helps. */
function mustJoin(trouble: GroupTrouble): boolean {
  return trouble === 'rebalance' || trouble === 'overtaken' || trouble === 'fenced'
}

function byName(parts: readonly TopicPartition[]): Map<string, TopicPartition> {
  return new Map(parts.map((part) => [nameOf(part), part]))
}

function layoutOf(partitions: ReadonlyMap<string, readonly number[]>): string {
  return [...partitions].map(([topic, numbers]) => `${topic} ${numbers.length}`).join('\n')
}
