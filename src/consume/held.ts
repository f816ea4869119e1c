import type { Delivery, Source } from '../contract/broker.ts'
import type { ConsumedTopic } from './consumed-topic.ts'
import type { Tried } from './decide.ts'
import type { Execution } from './execution.ts'
import { Fifo } from './fifo.ts'
import { HeldList } from './held-list.ts'
import type { Lane } from './lanes.ts'
import type { ReceivedMessage } from './message.ts'
import type { Outcome } from './outcome.ts'

/** A source as assigned to us once, and what is held of it. */
export class Assignment {
  readonly source: Source
  readonly held: HeldList = new HeldList()
  /** What may start, in order. */
  readonly ready: Fifo<Held> = new Fifo()
  /** Slices of it that have not ended. */
  places = 0
  /** Deliveries that wait for a failed one, itself included. */
  blocked = 0
  /** Being taken away: nothing of it starts any more, what would wait is released. */
  leaving = false
  /** Taken away: settling does nothing any more. */
  lost = false

  /** Called when the last one is settled; set by who waits for that. */
  onEmpty: (() => void) | null = null

  constructor(source: Source) {
    this.source = source
  }
}

/**
 * Where a delivery stands. queued: behind others of its lane. ready: may start. running: in a slice.
 * waiting: until its delay is over. storing: a retry or dead letter of it is on its way. gone: settled
 * or dropped.
 */
export type Place = 'queued' | 'ready' | 'running' | 'waiting' | 'storing' | 'gone'

/** A delivery that is held: everything the steps know about it. */
export class Held implements Tried {
  readonly delivery: Delivery
  readonly topic: ConsumedTopic
  readonly assignment: Assignment
  /** Clock instant of its delivery. */
  readonly sinceMs: number
  /** May have been handled before, so its starts are counted durably where a store can. */
  suspect: boolean

  /** Its neighbours in what its source holds. */
  older: Held | null = null
  newer: Held | null = null
  lane: Lane | null = null
  /** Its neighbours in its lane. */
  previous: Held | null = null
  next: Held | null = null
  place: Place = 'queued'
  /** Its handler has not ended, maybe although its outcome is known. */
  executing = false
  blocked = false
  /** Shares no transaction with others. */
  alone: boolean

  /** Tries behind it, as far as broker, header and this process know. */
  made = 0
  /** Starts as the attempt store counts them; 0: not counted. */
  starts = 0
  /** The count has gone up and the handler has not run since. */
  startCounted = false
  /** Waits in a row that say nothing about the message. */
  uncounted = 0
  /** What is left of a retry delay that travels through several levels. */
  remainingMs = 0
  /** Unix milliseconds after which it is not handled any more. */
  expiresMs: number | null = null
  opened = false
  /** As the handler sees it. */
  id: string | null = null
  /** As inbox and attempt store know it. */
  identity: string | null = null
  /** The broker's transaction has settled it. */
  committed = false

  message: ReceivedMessage | null = null
  outcome: Outcome | null = null
  execution: Execution | null = null

  /** The breaker said so when its outcome came. */
  breakerOpen = false

  constructor(
    delivery: Delivery,
    topic: ConsumedTopic,
    assignment: Assignment,
    sinceMs: number,
    suspect: boolean,
  ) {
    this.delivery = delivery
    this.topic = topic
    this.assignment = assignment
    this.sinceMs = sinceMs
    this.suspect = suspect
    this.alone = this.suspect
  }

  /** Number of the try that is made now, 1-based. */
  get attempt(): number {
    return Math.max(this.made + 1, this.starts)
  }

  /** Followers wait for it. */
  get ordered(): boolean {
    return this.lane !== null
  }

  get levelsMs(): readonly number[] {
    return this.topic.retryLevelsMs
  }
}
