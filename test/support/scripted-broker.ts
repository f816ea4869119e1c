import type {
  Broker,
  BrokerState,
  Deadline,
  Receiver,
  Report,
  Sender,
  SendOutcome,
} from '../../src/contract/broker.ts'
import { CONFIRMED } from '../../src/contract/broker.ts'
import type { Capabilities } from '../../src/contract/capabilities.ts'
import type { Clock } from '../../src/contract/clock.ts'
import {
  OutcomeUnknownError,
  PublishRefusedError,
  type ErrorCode,
} from '../../src/contract/errors.ts'
import type { Envelope } from '../../src/contract/message.ts'
import type { Finding, Topology } from '../../src/contract/topology.ts'

type Purpose = 'publish' | 'relay' | 'settle'

/** What a scripted broker is like where a test does not say otherwise. */
const plainCapabilities: Capabilities = {
  ordering: ['key', 'partition', 'none'],
  keyRunsInOneSend: false,
  retryDelay: 'none',
  attemptCount: 'none',
  atomicPublish: 'none',
  pause: 'all',
  hold: { maxMs: Infinity, maxMessages: Infinity, isolation: 'key' },
  progress: { outOfOrder: 'any', maxHoles: Infinity },
  headers: { duplicate: true, binary: true, null: true },
  tombstones: true,
  scheduledSend: null,
  reply: false,
  limits: () => ({ maxBodyBytes: 1_000_000 }),
}

/** One send a test may answer, by index. */
export class Handed {
  readonly batch: readonly Envelope[]
  readonly deadline: Deadline
  readonly purpose: Purpose
  readonly report: Report

  constructor(batch: readonly Envelope[], deadline: Deadline, purpose: Purpose, report: Report) {
    this.batch = batch
    this.deadline = deadline
    this.purpose = purpose
    this.report = report
  }

  get ids(): (string | null)[] {
    return this.batch.map(({ id }) => id)
  }

  get bodies(): string[] {
    return this.batch.map(({ body }) => JSON.parse(Buffer.from(body ?? []).toString()) as string)
  }

  confirm(from = 0, to: number = this.batch.length): void {
    this.report(from, to, CONFIRMED)
  }

  refuse(code: ErrorCode, retryable: boolean, from = 0, to: number = this.batch.length): void {
    this.report(from, to, refused(code, retryable))
  }

  lose(code: ErrorCode = 'unanswered', from = 0, to: number = this.batch.length): void {
    this.report(from, to, unknown(code))
  }
}

export function refused(code: ErrorCode, retryable: boolean): SendOutcome {
  return {
    status: 'refused',
    error: new PublishRefusedError(code, `${code} on purpose`, { retryable }),
  }
}

export function unknown(code: ErrorCode = 'unanswered'): SendOutcome {
  return { status: 'unknown', error: new OutcomeUnknownError(code, `${code} on purpose`) }
}

/** How a test lets the broker answer by itself: an outcome, or null for never. */
export type Answer = (envelope: Envelope, sent: Handed, index: number) => SendOutcome | null

/**
 * A broker that does what a test says: it keeps every send for the test to answer, or answers each
 * envelope by itself in the next turn.
 */
export class ScriptedBroker implements Broker {
  readonly name = 'scripted'
  readonly sends: Handed[] = []
  readonly provisioned: Topology[] = []
  readonly assumed: Topology[] = []
  readonly closed: Deadline[] = []
  opens = 0
  /** What opening does; default: works at once. */
  opening: () => Promise<void> = () => Promise.resolve()
  /** What provisioning finds. */
  finding: (topology: Topology) => Promise<readonly Finding[]> = () => Promise.resolve([])
  readonly #capabilities: Capabilities
  readonly #clock: Clock
  readonly #answer: Answer | null
  readonly #listeners = new Set<(state: BrokerState) => void>()
  #state: BrokerState = { status: 'down', reason: 'not opened yet' }

  constructor(
    clock: Clock,
    capabilities: Partial<Capabilities> = {},
    answer: Answer | null = null,
  ) {
    this.#clock = clock
    this.#capabilities = { ...plainCapabilities, ...capabilities }
    this.#answer = answer
  }

  /** The last send. */
  get last(): Handed {
    const last = this.sends.at(-1)
    if (last === undefined) throw new Error('nothing was sent yet')
    return last
  }

  get listeners(): number {
    return this.#listeners.size
  }

  async open(): Promise<Capabilities> {
    this.opens++
    await this.opening()
    this.become('up')
    return this.#capabilities
  }

  become(status: BrokerState['status'], reason: string | null = null): void {
    this.#state = { status, reason }
    for (const listener of this.#listeners) listener(this.#state)
  }

  provision(topology: Topology): Promise<readonly Finding[]> {
    this.provisioned.push(topology)
    return this.finding(topology)
  }

  assume(topology: Topology): void {
    this.assumed.push(topology)
  }

  audit(): Promise<readonly Finding[]> {
    return Promise.resolve([])
  }

  sender(purpose: Purpose): Sender {
    const send = (batch: readonly Envelope[], deadline: Deadline, report: Report): void => {
      const handed = new Handed(batch, deadline, purpose, report)
      this.sends.push(handed)
      if (this.#answer !== null) this.#clock.defer(() => this.#answerAll(handed))
    }
    return { send, close: () => Promise.resolve() }
  }

  receive(): Promise<Receiver> {
    return Promise.reject(new Error('a scripted broker only takes messages'))
  }

  onState(listener: (state: BrokerState) => void): () => void {
    this.#listeners.add(listener)
    listener(this.#state)
    return () => void this.#listeners.delete(listener)
  }

  close(deadline: Deadline): Promise<void> {
    this.closed.push(deadline)
    return Promise.resolve()
  }

  #answerAll(handed: Handed): void {
    for (const [index, envelope] of handed.batch.entries()) {
      const outcome = this.#answer?.(envelope, handed, index) ?? null
      if (outcome !== null) handed.report(index, index + 1, outcome)
    }
  }
}
