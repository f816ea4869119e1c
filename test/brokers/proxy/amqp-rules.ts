import type { MethodName } from './amqp-methods.ts'
import type { Mark } from './confirm-ledger.ts'
import { Rule, type Direction, type Fault, type Rules } from './rules.ts'

/** A method on its way, as far as the proxy can tell. */
export interface Seen {
  readonly direction: Direction
  readonly channel: number
  readonly method: MethodName
  /** Of `basic.publish`, `basic.deliver` and `basic.return`. */
  readonly exchange: string | null
  readonly routingKey: string | null
  /** Of `basic.consume`, and of `basic.deliver` to a consumer the proxy saw starting. */
  readonly queue: string | null
}

/** Which frames a rule is about. */
export type Match = MethodName | ((seen: Seen) => boolean)

/** What happens to a frame, and to the content that belongs to it. */
export type Action =
  /** It never arrives. Not for `basic.publish` on a confirm channel: the two sides would count differently. */
  | { readonly do: 'drop' }
  /** It arrives later, and so does what follows it on its channel. */
  | { readonly do: 'delay'; readonly ms: number }
  /** For `basic.publish`: it arrives, and the client never hears of it. */
  | { readonly do: 'lose-confirm' }
  /** For `basic.publish`: it arrives, and the client hears of it when the rule ends. */
  | { readonly do: 'hold-confirm' }
  /** It arrives; then its channel is closed, for the client by the broker, for the broker by the client. */
  | { readonly do: 'close-channel'; readonly code: number; readonly text: string }
  /** It does not arrive: both sides find the connection reset. */
  | { readonly do: 'reset' }

/** A fault that strikes single frames of AMQP. */
export class AmqpRule extends Rule<Seen, Action> implements Mark {
  constructor(fault: Fault, match: Match, action: Action, count: number) {
    const matches = typeof match === 'function' ? match : ({ method }: Seen) => method === match
    super(fault, matches, action, count)
  }

  get fate(): Mark['fate'] {
    return this.action.do === 'hold-confirm' ? 'hold' : 'lose'
  }
}

export type AmqpRules = Rules<Seen, AmqpRule>
