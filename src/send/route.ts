import type { Destination } from '../contract/message.ts'
import type { Breaker } from '../policy/circuit-breaker.ts'
import { Gate } from './gate.ts'
import type { Pending } from './pending.ts'

/** Everything about one destination: its keys, its breaker, and what rests until its way is open. */
export class Route {
  readonly name: string
  /** The topic, for what has to exist before the first envelope; null for replies. */
  readonly topic: string | null
  /** Only these are prepared by the dispatcher. */
  readonly isTopic: boolean
  readonly gate: Gate = new Gate()
  readonly held: Set<Pending> = new Set()
  /** Waits for room in the buffer, in the order it came. */
  readonly waiting: Set<Pending> = new Set()
  /** Taken into the buffer and not ended. */
  outstanding = 0
  /** The connection on which everything it needs was there; -1: none yet. */
  preparedOn = -1
  preparing = false
  maxBodyBytes: number = Number.POSITIVE_INFINITY
  /** Made with the first failure, so that a healthy destination has none. */
  breaker: Breaker | null = null

  constructor(to: Destination) {
    this.name = routeName(to)
    this.topic = to.kind === 'reply' ? null : to.topic
    this.isTopic = to.kind === 'topic'
  }
}

/** Distinguishes destinations. Delays of one group share a route; so do all replies, which are many and short-lived. */
export function routeName(to: Destination): string {
  switch (to.kind) {
    case 'topic':
      return to.topic
    case 'group':
      return `group ${to.topic} ${to.group}`
    case 'dead':
      return `dead ${to.topic} ${to.group}`
    case 'reply':
      return 'reply'
  }
}
