import type { Deadline } from '../../src/contract/broker.ts'
import { sleep, type Clock, type Random } from '../../src/contract/clock.ts'
import { CapabilityError, HoldfastError } from '../../src/contract/errors.ts'
import { exponential } from '../../src/policy/backoff.ts'
import { brokerErrorOf, isPassing } from './admin-errors.ts'
import type { BatchCodec } from './batch-writer.ts'
import { initProducerId } from './cluster-requests.ts'
import type { CommitOffset, Part, TransactResult } from './driver.ts'
import type { Member } from './group-link.ts'
import type { Clusters } from './cluster.ts'
import { ProducerLink, type ProducerIdentity } from './producer-link.ts'
import type { ConnectedNode } from './cluster-node.ts'
import { IdempotentProducer } from './idempotent-producer.ts'
import type { KafkajsClient } from './options.ts'
import type { Request } from './request.ts'
import {
  addOffsetsToTxn,
  addPartitionsToTxn,
  endTxn,
  txnOffsetCommit,
  type Transactional,
} from './transaction-requests.ts'

/** What transactions are made with. */
export interface TransactorOptions {
  readonly client: KafkajsClient | Clusters
  readonly clock: Clock
  readonly random: Random
  readonly connectTimeoutMs: number
  readonly requestTimeoutMs: number
  readonly codec: BatchCodec | null
  /** Nobody else's, as long as this exists. */
  readonly transactionalId: string
}

/** One transaction: what is written, and how far its reader is then. */
export interface TransactionWork {
  /** One request after the other; each names a partition once. */
  readonly rounds: readonly (readonly Part[])[]
  readonly groupId: string
  readonly member: Member
  readonly offsets: readonly CommitOffset[]
}

/** The broker aborts a transaction that was not ended by then: until it does, readers wait. */
const TRANSACTION_TIMEOUT_MS = 15_000
/** Part of the time in which it may still be ended as it should, and longest wait for any one answer. */
const ENDING_PART = 0.3
const LONGEST_ANSWER_MS = 5_000
/** How long aborting is waited for; the broker does it by itself later. */
const ABORT_MS = 2_000

/** A transaction of the same id is being ended. */
const CONCURRENT = 51
/** Whoever hears that has not committed: it was fenced, timed out, or aborted. */
const notCommitted: ReadonlySet<number> = new Set([47, 48, 49, 53, 90])

const backoff = exponential({ initialMs: 20, maxMs: 500 })

/** One transaction after the other under one transactional id. */
export class Transactor {
  readonly #options: TransactorOptions
  readonly #link: ProducerLink
  #identity: ProducerIdentity | null = null
  #producer: IdempotentProducer | null = null
  /** Nodes by what they keep. */
  readonly #coordinators = new Map<string, number>()
  #isConnected = false
  #isClosed = false

  constructor(options: TransactorOptions) {
    this.#options = options
    this.#link = new ProducerLink(options.client, options.clock)
  }

  /**
   * Writes and commits offsets, both or neither. Never rejects. 'unknown': only the offsets that are stable
   * afterwards can tell. `onAborted` is told why. Must not be called again before it ended.
   */
  async run(
    work: TransactionWork,
    deadline: Deadline,
    onAborted: (why: unknown) => void,
  ): Promise<TransactResult> {
    const { clock } = this.#options
    const workBy = deadline - (deadline - clock.now()) * ENDING_PART
    try {
      await this.#begin(work, workBy)
      await this.#fill(work, workBy)
    } catch (error) {
      onAborted(error)
      await this.#abort()
      return 'aborted'
    }
    return this.#commit(deadline, onAborted)
  }

  /** Bounded, never rejects. */
  async close(): Promise<void> {
    this.#isClosed = true
    await this.#link.close()
  }

  async #begin({ rounds }: TransactionWork, deadline: Deadline): Promise<void> {
    const { transactionalId, clock, connectTimeoutMs } = this.#options
    if (!this.#isConnected) {
      const topics = new Set(rounds.flat().map(({ topic }) => topic))
      await this.#link.connect(topics, Math.min(deadline, clock.now() + connectTimeoutMs))
      this.#isConnected = true
    }
    // The numbers of its batches may be used up.
    if (this.#identity !== null && this.#producer?.usable !== false) return
    const asked = { transactionalId, transactionTimeout: TRANSACTION_TIMEOUT_MS }
    const given = await this.#ask(transactionalId, 1, initProducerId, asked, deadline)
    const { producerEpoch } = given
    const identity = { producerId: BigInt(given.producerId), producerEpoch }
    const link = this.#link
    this.#identity = identity
    const transaction = { transactionalId, identity, link }
    this.#producer = new IdempotentProducer({ ...this.#options, transaction })
  }

  async #fill(work: TransactionWork, deadline: Deadline): Promise<void> {
    const { rounds, groupId, member, offsets } = work
    const { transactionalId } = this.#options
    const parts = [...new Map(rounds.flat().map((one) => [nameOf(one), one])).values()]
    const who = this.#who()
    if (parts.length > 0) {
      await this.#ask(transactionalId, 1, addPartitionsToTxn, { ...who, parts }, deadline)
    }
    for (const round of rounds) await this.#write(round, deadline)
    await this.#ask(transactionalId, 1, addOffsetsToTxn, { ...who, groupId }, deadline)
    const commit = { ...who, groupId, member, offsets }
    await this.#ask(groupId, 0, txnOffsetCommit, commit, deadline)
  }

  async #write(parts: readonly Part[], deadline: Deadline): Promise<void> {
    const producer = this.#producer as IdempotentProducer
    for (const result of await producer.produce(parts, deadline)) {
      if (result.status !== 'stored') throw result.error
    }
  }

  /** As often as it takes: asked again it is not done twice. */
  async #commit(deadline: Deadline, onAborted: (why: unknown) => void): Promise<TransactResult> {
    const { transactionalId } = this.#options
    const asked = { ...this.#who(), commits: true }
    try {
      await this.#ask(transactionalId, 1, endTxn, asked, deadline)
      return 'committed'
    } catch (error) {
      this.#forget()
      if (!notCommitted.has(brokerErrorOf(error)?.code ?? 0)) return 'unknown'
      onAborted(error)
      return 'aborted'
    }
  }

  /** What was begun under this number is over in any case: the next one is given only then. */
  async #abort(): Promise<void> {
    const { clock, transactionalId } = this.#options
    if (this.#identity !== null && !this.#isClosed) {
      const asked = { ...this.#who(), commits: false }
      const deadline = clock.now() + ABORT_MS
      await this.#ask(transactionalId, 1, endTxn, asked, deadline).catch(() => undefined)
    }
    this.#forget()
  }

  #forget(): void {
    this.#identity = null
    this.#producer = null
  }

  #who(): Transactional {
    const { transactionalId } = this.#options
    return { transactionalId, ...(this.#identity as ProducerIdentity) }
  }

  async #coordinator(key: string, type: 0 | 1, deadline: Deadline): Promise<ConnectedNode> {
    let nodeId = this.#coordinators.get(key)
    if (nodeId === undefined) {
      nodeId = await this.#link.coordinatorOf(key, type, deadline)
      this.#coordinators.set(key, nodeId)
    }
    return this.#link.connected(nodeId, deadline)
  }

  /** Asks a coordinator until it answers something that does not pass. Rejects at the deadline. */
  async #ask<Asked, Answer>(
    key: string,
    type: 0 | 1,
    request: Request<Asked, Answer>,
    asked: Asked,
    deadline: Deadline,
  ): Promise<Answer> {
    const { clock, random } = this.#options
    for (let attempt = 1; ; attempt++) {
      const by = Math.min(deadline, clock.now() + LONGEST_ANSWER_MS)
      try {
        const node = await this.#coordinator(key, type, by)
        checkVersion(node, request)
        return await this.#link.ask(node, request, asked, by)
      } catch (error) {
        this.#coordinators.delete(key)
        const waitMs = backoff.delayFor(attempt, random)
        const isOver = this.#isClosed || clock.now() + waitMs >= deadline
        if (isOver || !mayPass(error)) throw error
        await sleep(clock, waitMs)
      }
    }
  }
}

/** No word of a broker, or one that says that another time or place is better. */
function mayPass(error: unknown): boolean {
  if (error instanceof CapabilityError) return false
  const said = brokerErrorOf(error)
  if (said === null) return true
  return said.code === CONCURRENT || isPassing(error)
}

function checkVersion(
  { versions }: ConnectedNode,
  { key, version, name }: Request<never, unknown>,
): void {
  if ((versions?.[key]?.maxVersion ?? 0) >= version) return
  throw new CapabilityError(`transactions need ${name} ${version}: Kafka 2.5 or later`)
}

function nameOf({ topic, partition }: Part): string {
  return `${topic}/${partition}`
}

/** Transactors of one consumer: as many at once, and the rest in turn. */
const MOST_AT_ONCE = 4

/** What a pool makes its transactors with; their ids begin with `idPrefix`. */
export interface TransactorsOptions extends Omit<TransactorOptions, 'transactionalId'> {
  readonly idPrefix: string
}

/** Lends transactors, one to each that asks. */
export class Transactors {
  readonly #options: TransactorsOptions
  readonly #all: Transactor[] = []
  readonly #idle: Transactor[] = []
  readonly #waiting: (() => void)[] = []
  #isClosed = false

  constructor(options: TransactorsOptions) {
    this.#options = options
  }

  async use<T>(deadline: Deadline, work: (transactor: Transactor) => Promise<T>): Promise<T> {
    const transactor = await this.#take(deadline)
    try {
      return await work(transactor)
    } finally {
      this.#idle.push(transactor)
      this.#waiting.shift()?.()
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true
    for (const go of this.#waiting.splice(0)) go()
    await Promise.all(this.#all.map((one) => one.close()))
  }

  async #take(deadline: Deadline): Promise<Transactor> {
    const { clock, idPrefix } = this.#options
    for (;;) {
      if (this.#isClosed) throw new HoldfastError('closed', 'the consumer is closed')
      const idle = this.#idle.pop()
      if (idle !== undefined) return idle
      if (this.#all.length < MOST_AT_ONCE) {
        const transactionalId = `${idPrefix}.${this.#all.length}`
        const made = new Transactor({ ...this.#options, transactionalId })
        this.#all.push(made)
        return made
      }
      if (clock.now() >= deadline) throw new HoldfastError('timeout', 'no transaction could begin')
      await this.#turn(deadline)
    }
  }

  /** Until one is given back, or the deadline. */
  #turn(deadline: Deadline): Promise<void> {
    const { clock } = this.#options
    return new Promise((resolve) => {
      const go = (): void => {
        cancel()
        resolve()
      }
      const cancel = clock.after(deadline - clock.now(), () => {
        this.#waiting.splice(this.#waiting.indexOf(go), 1)
        resolve()
      })
      this.#waiting.push(go)
    })
  }
}
