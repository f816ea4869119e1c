import type { ErrorCode } from '../../src/contract/errors.ts'
import { OptionError } from '../../src/contract/errors.ts'
import type { Random } from '../../src/contract/clock.ts'
import type { Envelope } from '../../src/contract/message.ts'
import type { Connection } from './connection.ts'
import type { Group } from './group.ts'
import type { Link } from './link.ts'
import type { Aim, Fault } from './send-faults.ts'
import type { MemoryServer } from './server.ts'
import type { TransactFault } from './transact.ts'
import { HoldfastError } from '../../src/contract/errors.ts'

export type { Aim, Fault } from './send-faults.ts'

/** Which groups a fault is about; what is left out means all. */
export interface Where {
  readonly topic?: string
  readonly group?: string
}

/**
 * What goes wrong with brokers, on demand. Everything but `block`, `down` and `crash`, which are about
 * this connection, is about the broker and so about every connection to it.
 */
export class MemoryFaults {
  readonly #server: MemoryServer
  readonly #link: Link
  readonly #connection: () => Connection | null

  constructor(server: MemoryServer, link: Link, connection: () => Connection | null) {
    this.#server = server
    this.#link = link
    this.#connection = connection
  }

  /** The next sends are refused and stored nowhere. Default: the next one, retryable. */
  refuseSends(aim: Aim & { readonly code?: ErrorCode; readonly retryable?: boolean } = {}): Fault {
    const { code = 'rejected', retryable = true } = aim
    return this.#server.faults.add({ kind: 'refuse', code, retryable }, aim)
  }

  /** The next sends are stored and end unknown. Default: the next one. */
  loseConfirms(aim: Aim = {}): Fault {
    return this.#server.faults.add({ kind: 'unknown', stored: true }, aim)
  }

  /** The next sends are stored nowhere and end unknown. Default: the next one. */
  loseSends(aim: Aim = {}): Fault {
    return this.#server.faults.add({ kind: 'unknown', stored: false }, aim)
  }

  /** Until ended, confirms come `ms` later; what has its deadline before ends unknown. */
  delayConfirms(ms: number, aim: Aim = {}): Fault {
    return this.#server.faults.add({ kind: 'late', ms }, { times: Infinity, ...aim })
  }

  /** Until ended, what is sent to the topic is stored and nobody hears of it. */
  stall(topic: string): Fault {
    return this.delayConfirms(Infinity, { match: sentTo(topic) })
  }

  /** Until ended, what is sent to the topic is not written. */
  holdBack(topic: string): Fault {
    return this.#server.faults.add({ kind: 'unwritten' }, { match: sentTo(topic), times: Infinity })
  }

  /** From now on (until `null`) the envelopes of a send are stored in any order; only without key runs. */
  shuffleSends(random: Random | null): void {
    if (random !== null && this.#server.capabilities.keyRunsInOneSend) {
      throw new OptionError('shuffleSends', random, 'a broker with keyRunsInOneSend: false')
    }
    this.#server.faults.shuffle(random)
  }

  /** The next `count` settles do not reach the broker: `flush` rejects, and the messages come again. */
  missSettles(count: number): void {
    this.#server.settlesToMiss += count
  }

  /** The next `transact` ends like that. */
  failTransact(how: TransactFault): void {
    this.#server.transactFaults.push(how)
  }

  /** Everything unsettled comes again, without a loss of sources; earlier deliveries are stale. Returns of how many sources. */
  redeliver(where: Where = {}): number {
    let count = 0
    for (const group of this.#groups(where)) {
      for (const feed of group.feeds) {
        for (const source of feed.sources) {
          source.takeBack()
          count++
        }
      }
    }
    return count
  }

  /**
   * Takes sources away without asking and assigns them anew, with a new epoch; with `withhold` not
   * before `regain`. Returns how many were lost.
   */
  loseSources(where: Where & { readonly withhold?: boolean } = {}): number {
    let count = 0
    for (const group of this.#groups(where)) {
      count += group.members.lose(() => true, where.withhold ?? false)
    }
    return count
  }

  /** Ends `withhold`. */
  regain(where: Where = {}): void {
    for (const group of this.#groups(where)) group.members.regain()
  }

  /** Takes sources away in order, as a rebalance does, and assigns them anew; resolves when that is done. */
  async revokeSources(where: Where = {}): Promise<number> {
    const counts = await Promise.all(
      this.#groups(where).map((group) => group.members.revoke(() => true)),
    )
    return counts.reduce((sum, count) => sum + count, 0)
  }

  /** Removes a group, or a topic with all its groups, and what they store; receivers end. */
  deleteDestination(name: string, groupName?: string): void {
    const topic = this.#server.topics.get(name)
    for (const group of this.#groups(
      groupName === undefined ? { topic: name } : { topic: name, group: groupName },
    )) {
      topic?.removeGroup(group)
      const error = new HoldfastError(
        'destination-gone',
        `group "${group.name}" of topic "${name}" was deleted; declare it again and start a new receiver`,
        { topic: name },
      )
      for (const receiver of [...group.members.all]) receiver.end(error)
    }
    if (groupName !== undefined || topic === undefined) return
    topic.deleted = true
    this.#server.topics.delete(name)
  }

  /** The broker asks this connection to stop writing; settling goes on. */
  block(reason = 'blocked on purpose'): void {
    if (this.#link.writable) this.#link.turn('blocked', reason)
  }

  /** Ends `block`: what waited is written, in order. */
  unblock(): void {
    if (this.#link.state.status !== 'blocked') return
    this.#link.up()
    this.#connection()?.resume()
  }

  /** This connection breaks: sources are lost, what is unconfirmed ends unknown, nothing is written. */
  down(reason = 'taken down on purpose'): void {
    const connection = this.#connection()
    if (connection === null) this.#link.fail(reason)
    else connection.down(reason)
  }

  /** Ends `down`: receivers get sources again, what waited is written, a waiting open() goes on. */
  up(): void {
    const connection = this.#connection()
    if (connection === null) this.#link.recover()
    else if (!connection.connected()) connection.up()
  }

  /** Every connection breaks and comes back; what was stored stays. Resolves when it can be reached again. */
  async restart(): Promise<void> {
    const clients = [...this.#server.clients]
    for (const client of clients) client.down('the broker restarts')
    if (clients.length === 0) return
    await new Promise<void>((resolve) => this.#server.clock.defer(resolve))
    for (const client of clients) client.up()
  }

  /**
   * The process of this connection dies: what it held goes back, and nobody is told anything any more.
   * The next process connects with `memory({ sameAs })`.
   */
  crash(): void {
    this.#connection()?.vanish()
  }

  #groups({ topic, group }: Where): Group[] {
    const topics = [...this.#server.topics.values()]
    return topics
      .filter(({ name }) => topic === undefined || name === topic)
      .flatMap(({ groups }) => groups)
      .filter(({ name }) => group === undefined || name === group)
  }
}

function sentTo(topic: string): (envelope: Envelope) => boolean {
  return ({ to }) => to.kind !== 'reply' && to.topic === topic
}
