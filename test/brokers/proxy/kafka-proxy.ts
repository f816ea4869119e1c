import type { Seen } from './kafka-requests.ts'
import { KafkaRule, type Action, type Match } from './kafka-rules.ts'
import { KafkaSession } from './kafka-session.ts'
import { Rules, type Fault } from './rules.ts'
import { TcpProxy, type ProxyOptions } from './tcp-proxy.ts'

export type { Seen } from './kafka-requests.ts'
export type { Action, Match } from './kafka-rules.ts'

/**
 * A proxy that knows the frames of Kafka. Clients come back through it only where the broker names its
 * port: see `Proxied` of the broker's ports.
 */
export class KafkaProxy extends TcpProxy<KafkaSession> {
  readonly #rules: Rules<Seen, KafkaRule>

  private constructor(options: ProxyOptions) {
    const rules = new Rules<Seen, KafkaRule>()
    super(options, (way) => new KafkaSession(way, rules))
    this.#rules = rules
  }

  /** Listens on that port of the loopback interface; rejects when somebody else does. */
  static async start(options: ProxyOptions, port: number = 0): Promise<KafkaProxy> {
    const proxy = new KafkaProxy(options)
    await proxy.listen(port)
    return proxy
  }

  /** The next `count` requests that match are struck. Default: every one until healed. */
  rule(match: Match, action: Action, count: number = Infinity): Fault {
    const fault = this.fault(action.do, () => {
      this.#rules.remove(rule)
      for (const { session } of this.links) session?.release(rule)
    })
    const rule = new KafkaRule(fault, match, action, count)
    this.#rules.add(rule)
    return fault
  }
}
