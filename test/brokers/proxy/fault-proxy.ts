import { AmqpRule, type Action, type Match, type Seen } from './amqp-rules.ts'
import { AmqpSession, type Alarm } from './amqp-session.ts'
import { Rules, type Fault } from './rules.ts'
import { TcpProxy, type ProxyOptions as TcpOptions } from './tcp-proxy.ts'

export type { Action, Match, Seen } from './amqp-rules.ts'
export { Fault } from './rules.ts'

/** How a proxy is made. */
export interface ProxyOptions extends TcpOptions {
  /** `bytes` moves anything and knows no frames. Default `amqp`. */
  readonly protocol?: 'amqp' | 'bytes'
}

/** A proxy that knows the frames of AMQP 0-9-1. */
export class FaultProxy extends TcpProxy<AmqpSession> {
  readonly #rules: Rules<Seen, AmqpRule>
  /** Set while publishing connections are told to stop. */
  readonly #alarm: { now: Alarm | null }

  private constructor(options: ProxyOptions) {
    const rules = new Rules<Seen, AmqpRule>()
    const alarm: { now: Alarm | null } = { now: null }
    super(options, (way) =>
      options.protocol === 'bytes' ? null : new AmqpSession(way, rules, alarm.now),
    )
    this.#rules = rules
    this.#alarm = alarm
  }

  /** Listens on a free port of the loopback interface. */
  static async start(options: ProxyOptions): Promise<FaultProxy> {
    const proxy = new FaultProxy(options)
    await proxy.listen(0)
    return proxy
  }

  /** The next `count` frames that match are struck. Default: every one until healed. */
  rule(match: Match, action: Action, count: number = Infinity): Fault {
    const fault = this.fault(action.do, () => {
      this.#rules.remove(rule)
      for (const { session } of this.links) session?.release(rule)
    })
    const rule = new AmqpRule(fault, match, action, count)
    this.#rules.add(rule)
    return fault
  }

  /** Connections that publish are told that the broker takes nothing, as in an alarm; until healed. */
  blockPublishers(reason: string = 'low on memory'): Fault {
    const fault = this.fault('blocked', () => {
      this.#alarm.now = null
      for (const { session } of this.links) session?.block(null)
    })
    this.#alarm.now = { reason, told: () => fault.strike() }
    for (const { session } of this.links) session?.block(this.#alarm.now)
    return fault
  }

  /** Closes the channels that consume a matching queue, as a broker does after an error; returns how many. */
  closeConsumers(matches: (queue: string) => boolean, code = 541, text = 'INTERNAL_ERROR'): number {
    let count = 0
    for (const { session } of this.links) {
      count += session?.closeChannels(({ queues }) => queues.some(matches), code, text) ?? 0
    }
    for (let n = 0; n < count; n++) this.fired('close-channel')
    return count
  }
}
