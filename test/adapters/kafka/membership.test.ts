import { describe, expect, it } from 'vitest'

import type { ConsumerCallbacks, TopicPartition } from '../../../adapters/kafka/driver.ts'
import type {
  GroupLink,
  HeartbeatLink,
  Joined,
  Member,
} from '../../../adapters/kafka/group-link.ts'
import {
  decodeAssignment,
  decodeClaim,
  encodeAssignment,
  encodeClaim,
} from '../../../adapters/kafka/group-protocol.ts'
import { Membership } from '../../../adapters/kafka/membership.ts'
import { nameOf } from '../../../adapters/kafka/part-name.ts'
import type { HoldfastError } from '../../../src/contract/errors.ts'
import type { HoldfastEvent } from '../../../src/contract/events.ts'
import { seededRandom } from '../../support/seeded-random.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'
import { specOf } from './test-member.ts'

/** As a coordinator says it. */
function brokerError(code: number, type: string): Error {
  return Object.assign(new Error(type), { name: 'KafkaJSProtocolError', code, type })
}

const rebalancing = (): Error => brokerError(27, 'REBALANCE_IN_PROGRESS')
const overtaken = (): Error => brokerError(22, 'ILLEGAL_GENERATION')
const unknownMember = (): Error => brokerError(25, 'UNKNOWN_MEMBER_ID')
const notCoordinator = (): Error => brokerError(16, 'NOT_COORDINATOR_FOR_GROUP')
const away = (): Error => Object.assign(new Error('gone'), { name: 'KafkaJSConnectionError' })

const part = (partition: number, topic = 'orders'): TopicPartition => ({ topic, partition })

/** A coordinator that does what a test says: by default the only member leads, and gets everything. */
class FakeLink implements Partial<GroupLink> {
  readonly clock: VirtualClock
  readonly asked: string[] = []
  readonly claims: ReturnType<typeof decodeClaim>[] = []
  readonly members: Member[] = []
  readonly divided: string[][] = []
  partitions = 2
  generation = 0
  lastId = 0
  /** What joins, syncs and heartbeats do next, before they work. */
  joins: (() => Promise<never>)[] = []
  syncs: (() => Promise<never>)[] = []
  beats: (() => Promise<never>)[] = []
  /** Others in the group, of whom this one is the leader. */
  others: Joined['members'] = []
  /** Somebody else leads, and gives this member that. */
  given: readonly TopicPartition[] | null = null
  protocol = 'holdfast'

  constructor(clock: VirtualClock) {
    this.clock = clock
  }

  async join(id: string, protocols: readonly { metadata: Buffer }[]): Promise<Joined> {
    this.asked.push(`join ${id}`)
    const trouble = this.joins.shift()
    if (trouble !== undefined) return trouble()
    const own = id === '' ? `m${++this.lastId}` : id
    const { metadata } = protocols[0]!
    this.claims.push(decodeClaim(metadata))
    const isLeader = this.given === null
    return {
      member: { id: own, generation: ++this.generation },
      isLeader,
      protocol: this.protocol,
      members: isLeader ? [{ id: own, metadata }, ...this.others] : [],
    }
  }

  async sync(member: Member, assignments: ReadonlyMap<string, Buffer>): Promise<Buffer> {
    this.asked.push('sync')
    const trouble = this.syncs.shift()
    if (trouble !== undefined) return trouble()
    this.members.push(member)
    for (const [id, one] of assignments) {
      this.divided.push([id, ...decodeAssignment(one).map(nameOf)])
    }
    return this.given === null
      ? (assignments.get(member.id) ?? Buffer.alloc(0))
      : encodeAssignment(this.given)
  }

  async heartbeat(): Promise<void> {
    this.asked.push('beat')
    const trouble = this.beats.shift()
    if (trouble !== undefined) await trouble()
  }

  /** What heartbeats beside a join do. */
  besideBeats: () => Promise<void> = () => Promise.reject(away())
  readonly besideOf: Member[] = []
  openBeside = 0

  beside(): HeartbeatLink {
    this.openBeside++
    return {
      heartbeat: (member) => {
        this.besideOf.push(member)
        return this.besideBeats()
      },
      close: async () => void this.openBeside--,
    }
  }

  async leave({ id }: Member): Promise<void> {
    this.asked.push(`leave ${id}`)
  }

  onRefresh: () => Promise<void> = () => Promise.resolve()

  refresh(): Promise<void> {
    return this.onRefresh()
  }

  leadersOf(topic: string): ReadonlyMap<number, number> | null {
    if (topic !== 'orders') return null
    return new Map(Array.from({ length: this.partitions }, (_, n) => [n, 1]))
  }

  forgetCoordinator(): void {
    this.asked.push('forget')
  }

  count(what: string): number {
    return this.asked.filter((one) => one === what).length
  }
}

/** A membership, and what it tells. */
class Stage {
  readonly clock: VirtualClock = new VirtualClock()
  readonly link: FakeLink = new FakeLink(this.clock)
  readonly told: string[] = []
  readonly events: HoldfastEvent[] = []
  readonly failures: HoldfastError[] = []
  readonly readable: string[] = []
  readonly membership: Membership
  onYielding: ConsumerCallbacks['yielding'] = () => Promise.resolve()
  onRevoking: () => Promise<void> = () => Promise.resolve()

  constructor() {
    const emit = Object.assign((event: HoldfastEvent) => void this.events.push(event), {
      wants: () => true,
    })
    this.membership = new Membership({
      link: this.link as unknown as GroupLink,
      spec: specOf(['orders']),
      clock: this.clock,
      random: seededRandom(1),
      emit,
      requestTimeoutMs: 2_000,
      lookMs: 60_000,
      listener: {
        readable: (parts) => void this.readable.push(parts.map(nameOf).join(' ')),
        assigned: (epoch, parts) => {
          this.told.push(`assigned ${epoch}: ${parts.map(nameOf).join(' ')}`)
        },
        revoking: (epoch) => {
          this.told.push(`revoking ${epoch}`)
          return this.onRevoking()
        },
        yielding: (epoch, parts, deadline) => {
          this.told.push(`yielding ${epoch}: ${parts.map(nameOf).join(' ')}`)
          return this.onYielding(epoch, parts, deadline)
        },
        lost: (epoch) => void this.told.push(`lost ${epoch}`),
        failed: (error) => void this.failures.push(error),
      },
    })
  }

  async started(): Promise<this> {
    await this.clock.run(this.membership.start(this.clock.now() + 30_000))
    return this
  }

  get last(): string | undefined {
    return this.told.at(-1)
  }
}

function fails(trouble: () => Error): () => Promise<never> {
  return () => Promise.reject(trouble())
}

describe('a membership', () => {
  it('joins, gets what the leader gives, and says that it is alive', async () => {
    const stage = await new Stage().started()
    expect(stage.told).toEqual(['assigned 1: orders/0 orders/1'])
    await stage.clock.advance(2_000)
    expect(stage.link.count('beat')).toBe(10)
    expect(stage.membership.memberOf(1)).toEqual({ id: 'm1', generation: 1 })
    expect(stage.membership.memberOf(0)).toBeNull()
    await stage.clock.run(stage.membership.close(stage.clock.now() + 1_000))
    expect(stage.link.asked.at(-1)).toBe('leave m1')
    expect(stage.clock.timers).toBe(0)
  })

  it('commits before it joins again, and keeps what it has meanwhile', async () => {
    const stage = await new Stage().started()
    let isCommitted = false
    stage.onRevoking = async () => {
      expect(stage.link.asked.at(-1)).toBe('beat')
      isCommitted = true
    }
    stage.link.beats = [fails(rebalancing)]
    await stage.clock.advance(1_000)
    expect(isCommitted).toBe(true)
    expect(stage.told).toEqual([
      'assigned 1: orders/0 orders/1',
      'revoking 1',
      'assigned 2: orders/0 orders/1',
    ])
    expect(stage.link.claims[1]).toMatchObject({
      generation: 1,
      owned: [part(0), part(1)],
    })
  })

  it('does not wait long for that commit', async () => {
    const stage = await new Stage().started()
    stage.onRevoking = () => new Promise(() => undefined)
    stage.link.beats = [fails(rebalancing)]
    await stage.clock.advance(2_000)
    expect(stage.last).toBe('assigned 2: orders/0 orders/1')
  })

  it('asks for what is to move, gives it up when it is finished, and joins again', async () => {
    const stage = await new Stage().started()
    const metadata = encodeClaim({ topics: ['orders'], generation: -1, owned: [] })
    stage.link.others = [{ id: 'other', metadata }]
    let finish = (): void => undefined
    stage.onYielding = () => new Promise<void>((resolve) => (finish = resolve))
    stage.link.beats = [fails(rebalancing)]
    await stage.clock.advance(1_000)
    expect(stage.link.divided.slice(-2)).toEqual([['m1', 'orders/0'], ['other']])
    expect(stage.told.slice(-2)).toEqual(['assigned 2: orders/0 orders/1', 'yielding 2: orders/1'])
    await stage.clock.advance(3_000)
    expect(stage.link.count('join m1')).toBe(1)
    finish()
    await stage.clock.advance(100)
    expect(stage.told.slice(-3)).toEqual([
      'assigned 2: orders/0',
      'revoking 2',
      'assigned 3: orders/0',
    ])
    expect(stage.link.divided.slice(-2)).toEqual([
      ['m1', 'orders/0'],
      ['other', 'orders/1'],
    ])
  })

  it('claims what it has not finished, whatever rebalances come meanwhile', async () => {
    const stage = await new Stage().started()
    stage.link.given = [part(0)]
    stage.onYielding = () => new Promise(() => undefined)
    stage.link.beats = [fails(rebalancing)]
    await stage.clock.advance(1_000)
    stage.link.beats = [fails(rebalancing)]
    await stage.clock.advance(1_000)
    expect(stage.link.claims.at(-1)?.owned).toEqual([part(0), part(1)])
    expect(stage.told.filter((one) => one.startsWith('yielding'))).toHaveLength(1)
    // It does not finish in time: then it is given up all the same.
    await stage.clock.advance(6_000)
    expect(stage.link.claims.at(-1)?.owned).toEqual([part(0)])
  })

  it('begins anew with what it gave up and is given again', async () => {
    const stage = await new Stage().started()
    stage.link.given = [part(0)]
    let finish = (): void => undefined
    stage.onYielding = () => new Promise<void>((resolve) => (finish = resolve))
    stage.link.beats = [fails(rebalancing)]
    await stage.clock.advance(1_000)
    stage.link.given = [part(0), part(1)]
    stage.link.beats = [fails(rebalancing)]
    await stage.clock.advance(1_000)
    finish()
    await stage.clock.advance(10)
    expect(stage.told).toContain('assigned 3: orders/0 orders/1')
    // It was paused for good, had nobody taken it away in between.
    expect(stage.readable.slice(-3, -1)).toEqual(['orders/0', 'orders/0 orders/1'])
    expect(stage.link.claims.at(-1)?.owned).toEqual([part(0), part(1)])
  })

  it('lets go at once where others know no asking', async () => {
    const stage = await new Stage().started()
    stage.link.protocol = 'RoundRobinAssigner'
    stage.link.given = [part(0)]
    stage.link.beats = [fails(rebalancing)]
    await stage.clock.advance(1_000)
    expect(stage.last).toBe('assigned 2: orders/0')
  })

  it('loses everything when the group does not know it any more, and comes as a new member', async () => {
    const stage = await new Stage().started()
    stage.link.beats = [fails(unknownMember)]
    await stage.clock.advance(1_000)
    expect(stage.told.slice(1)).toEqual(['lost 1', 'assigned 2: orders/0 orders/1'])
    expect(stage.link.claims.at(-1)).toMatchObject({ generation: -1, owned: [] })
    expect(stage.membership.memberOf(2)?.id).toBe('m2')
    expect(stage.membership.memberOf(1)).toBeNull()
  })

  it('joins for another generation when it is asked to, and keeps what it has', async () => {
    const stage = await new Stage().started()
    stage.membership.renew()
    await stage.clock.advance(100)
    expect(stage.told.slice(1)).toEqual(['revoking 1', 'assigned 2: orders/0 orders/1'])
    expect(stage.membership.memberOf(2)).toEqual({ id: 'm1', generation: 2 })
  })

  it('loses everything when the group went on without it, and comes back as who it is', async () => {
    const stage = await new Stage().started()
    stage.link.beats = [fails(overtaken)]
    await stage.clock.advance(1_000)
    expect(stage.told.slice(1)).toEqual(['lost 1', 'assigned 2: orders/0 orders/1'])
    expect(stage.link.claims.at(-1)).toMatchObject({ generation: -1, owned: [] })
    expect(stage.membership.memberOf(2)?.id).toBe('m1')
  })

  it('comes back as who it is when what comes of a join is overtaken by the next one', async () => {
    const stage = new Stage()
    stage.link.syncs = [fails(overtaken)]
    await stage.started()
    expect(stage.membership.memberOf(1)?.id).toBe('m1')
    expect(stage.link.asked).toEqual(['join ', 'sync', 'join m1', 'sync'])
  })

  it('knows by its own clock when the group must have given it up', async () => {
    const stage = await new Stage().started()
    stage.link.beats = Array.from({ length: 1_000 }, () => fails(away))
    stage.link.joins = Array.from({ length: 1_000 }, () => fails(away))
    await stage.clock.advance(5_900)
    expect(stage.told).toHaveLength(1)
    await stage.clock.advance(101)
    expect(stage.last).toBe('lost 1')
    expect(stage.membership.memberOf(1)).toBeNull()
    stage.link.beats = []
    stage.link.joins = []
    await stage.clock.advance(10_000)
    expect(stage.last).toBe('assigned 2: orders/0 orders/1')
    expect(stage.link.claims.at(-1)?.owned).toEqual([])
  })

  it('knows it also while an answer does not come', async () => {
    const stage = await new Stage().started()
    const { clock, link } = stage
    // As a link does that waits until the deadline.
    link.heartbeat = (...[, deadline]: [Member?, number?]) =>
      new Promise((_, reject) => clock.after(deadline! - clock.now(), () => reject(away())))
    link.joins = Array.from({ length: 1_000 }, () => fails(away))
    await clock.advance(6_100)
    expect(stage.last).toBe('lost 1')
  })

  it('keeps everything over a short absence of the coordinator', async () => {
    const stage = await new Stage().started()
    stage.link.beats = [fails(notCoordinator), fails(away), fails(away)]
    await stage.clock.advance(5_000)
    expect(stage.told).toHaveLength(1)
    expect(stage.link.count('forget')).toBe(1)
  })

  it('joins again when a join or what comes of it is overtaken', async () => {
    const stage = new Stage()
    stage.link.joins = [fails(notCoordinator), fails(away), fails(unknownMember)]
    stage.link.syncs = [fails(rebalancing), fails(rebalancing)]
    await stage.started()
    expect(stage.told).toEqual(['assigned 1: orders/0 orders/1'])
    expect(stage.link.count('sync')).toBe(3)
  })

  it('says when it waits for all to come back, since nothing else is answered then', async () => {
    const stage = await new Stage().started()
    expect(stage.membership.isJoining).toBe(false)
    stage.link.beats = [fails(rebalancing)]
    let end: (error: Error) => void = () => undefined
    stage.link.joins = [() => new Promise((_, reject) => (end = reject))]
    await stage.clock.advance(1_000)
    expect(stage.membership.isJoining).toBe(true)
    end(away())
    await stage.clock.advance(1_000)
    expect(stage.membership.isJoining).toBe(false)
    expect(stage.last).toBe('assigned 2: orders/0 orders/1')
  })

  describe('whose join is not answered', () => {
    /** A member that was told of a rebalance, and whose join waits until it is let in. */
    async function joining(): Promise<{ stage: Stage; answer: () => Promise<void> }> {
      const stage = await new Stage().started()
      const { link, clock } = stage
      const join = link.join.bind(link)
      let letIn = (): void => undefined
      const open = new Promise<void>((resolve) => (letIn = resolve))
      link.join = async (...args) => {
        await open
        return join(...args)
      }
      link.beats = [fails(rebalancing)]
      await clock.advance(200)
      expect(stage.membership.isJoining).toBe(true)
      return {
        stage,
        answer: async () => {
          letIn()
          await clock.settle()
        },
      }
    }

    it('lets go after a session in which the coordinator has not heard of it', async () => {
      const { stage } = await joining()
      await stage.clock.advance(5_900)
      expect(stage.told).not.toContain('lost 1')
      await stage.clock.advance(100)
      expect(stage.last).toBe('lost 1')
      expect(stage.membership.memberOf(1)).toBeNull()
      expect(stage.link.openBeside).toBe(0)
    })

    it('keeps what it has as long as the coordinator hears of it on another connection', async () => {
      const { stage, answer } = await joining()
      stage.link.besideBeats = fails(rebalancing)
      await stage.clock.advance(10_000)
      expect(stage.last).toBe('revoking 1')
      expect(stage.link.besideOf[0]).toEqual({ id: 'm1', generation: 1 })
      expect(stage.link.besideOf.length).toBeLessThan(8)
      await answer()
      expect(stage.last).toBe('assigned 2: orders/0 orders/1')
      expect(stage.link.openBeside).toBe(0)
    })

    it('lets go at once when it is not a member any more', async () => {
      const { stage } = await joining()
      stage.link.besideBeats = fails(unknownMember)
      await stage.clock.advance(2_100)
      expect(stage.last).toBe('lost 1')
    })

    it('lets go after a session when the answer was lost', async () => {
      const { stage } = await joining()
      stage.link.besideBeats = fails(overtaken)
      await stage.clock.advance(5_900)
      expect(stage.told).not.toContain('lost 1')
      await stage.clock.advance(100)
      expect(stage.last).toBe('lost 1')
    })

    it('joins again when it lost what the others think is still to be finished', async () => {
      const { stage, answer } = await joining()
      stage.link.given = [part(0)]
      await stage.clock.advance(6_100)
      await answer()
      await stage.clock.advance(100)
      expect(stage.told.slice(-2)).toEqual(['revoking 2', 'assigned 3: orders/0'])
      expect(stage.link.claims.map(({ owned }) => owned.length)).toEqual([0, 2, 1])
    })

    it('is heard of under its new generation while it waits for what it gets', async () => {
      const { stage, answer } = await joining()
      stage.link.besideBeats = () => Promise.resolve()
      stage.link.syncs = [() => new Promise(() => undefined)]
      await answer()
      await stage.clock.advance(8_000)
      expect(stage.link.besideOf.at(-1)).toEqual({ id: 'm1', generation: 2 })
      expect(stage.told).not.toContain('lost 1')
      const closing = stage.membership.close(stage.clock.now() + 1_000)
      await stage.clock.run(closing)
      expect(stage.link.openBeside).toBe(0)
    })
  })

  it('does not take the coordinator by storm when nothing but joining again is left', async () => {
    const stage = await new Stage().started()
    stage.link.beats = [fails(unknownMember)]
    stage.link.joins = Array.from({ length: 10_000 }, () => fails(unknownMember))
    await stage.clock.advance(10_000)
    expect(stage.link.asked.length).toBeLessThan(60)
  })

  it('fails where trying again does not help', async () => {
    const forbidden = (): Error => brokerError(30, 'GROUP_AUTHORIZATION_FAILED')
    const stage = new Stage()
    stage.link.joins = [fails(forbidden)]
    await expect(stage.started()).rejects.toMatchObject({ code: 30 })
    const later = await new Stage().started()
    later.link.beats = [fails(rebalancing)]
    later.link.joins = [fails(forbidden)]
    await later.clock.advance(1_000)
    expect(later.failures[0]).toMatchObject({ code: 'rejected' })
    expect(later.failures[0]?.message).toContain('allow READ on the group')
    expect(later.last).toBe('lost 1')
  })

  it('fails, and is not silent, when something goes wrong that nobody has thought of', async () => {
    const stage = await new Stage().started()
    stage.link.heartbeat = () => {
      Object.defineProperty(stage.link, 'forgetCoordinator', {
        value: () => {
          throw new Error('unheard of')
        },
      })
      return Promise.reject(notCoordinator())
    }
    await stage.clock.advance(1_000)
    expect(stage.failures[0]?.message).toContain('unheard of')
    expect(stage.last).toBe('lost 1')
  })

  it('gives up joining at the deadline', async () => {
    const stage = new Stage()
    stage.link.joins = Array.from({ length: 1_000 }, () => fails(away))
    await expect(stage.started()).rejects.toThrow('gone')
    expect(stage.clock.now()).toBeLessThan(40_000)
  })

  it('looks whether topics have grown, as the leader, and divides them anew', async () => {
    const stage = await new Stage().started()
    stage.link.partitions = 3
    await stage.clock.advance(59_000)
    expect(stage.told).toHaveLength(1)
    await stage.clock.advance(2_000)
    expect(stage.last).toBe('assigned 2: orders/0 orders/1 orders/2')
    const follower = new Stage()
    follower.link.given = [part(0)]
    await follower.started()
    follower.link.partitions = 3
    await follower.clock.advance(120_000)
    expect(follower.link.count('join m1')).toBe(0)
  })

  it('says that it is alive while a node that hangs is asked for the topics', async () => {
    const stage = await new Stage().started()
    stage.link.onRefresh = () => new Promise(() => undefined)
    await stage.clock.advance(60_000)
    const beats = stage.link.count('beat')
    await stage.clock.advance(5_000)
    expect(stage.link.count('beat')).toBeGreaterThan(beats + 3)
  })

  it('says when something kept it from saying that it is alive', async () => {
    const stage = await new Stage().started()
    const { clock } = stage
    const after = clock.after.bind(clock)
    clock.after = (ms, task) => after(ms === 200 ? 2_500 : ms, task)
    await clock.advance(3_000)
    const warned = stage.events.some(
      (event) => event.type === 'warning' && event.code === 'kafka.event-loop-busy',
    )
    expect(warned).toBe(true)
  })
})
