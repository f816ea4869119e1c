import type { ApiName, Seen } from './kafka-requests.ts'
import { Rule, type Fault, type Rules } from './rules.ts'

/** Which requests a rule is about. */
export type Match = ApiName | ((seen: Seen) => boolean)

/** What happens to a request, and to the answer that belongs to it. */
export type Action =
  /** It never reaches the broker, and so is never answered. */
  | { readonly do: 'drop' }
  /** It reaches the broker later, and so does what follows it on its connection. */
  | { readonly do: 'delay'; readonly ms: number }
  /** It reaches the broker, which does it; its answer never arrives. */
  | { readonly do: 'lose-answer' }
  /** The broker does it; its answer arrives when the rule is healed. Other answers overtake it. */
  | { readonly do: 'hold-answer' }
  /** The broker does it; its answer, and what follows it on its connection, arrives later. */
  | { readonly do: 'delay-answer'; readonly ms: number }
  /** It does not reach the broker: both sides find the connection reset. */
  | { readonly do: 'reset' }
  /** The broker does it; when it answers, both sides find the connection reset. */
  | { readonly do: 'reset-answer' }
  /**
   * The broker does it, and the answer says that error: of `Produce` and `OffsetCommit` for the topics
   * that match (default all), while the others are told the truth. Also of `JoinGroup`, `SyncGroup`,
   * `Heartbeat`, `LeaveGroup` and `InitProducerId`.
   */
  | {
      readonly do: 'answer-error'
      readonly code: number
      readonly topics?: (topic: string) => boolean
    }

/** A fault that strikes single requests of Kafka. */
export class KafkaRule extends Rule<Seen, Action> {
  constructor(fault: Fault, match: Match, action: Action, count: number) {
    super(fault, typeof match === 'function' ? match : ({ api }) => api === match, action, count)
  }
}

export type KafkaRules = Rules<Seen, KafkaRule>
