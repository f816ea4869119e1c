import { AmqpChannel } from './amqp-channel.ts'
import { FrameReader, frameType, type Frame } from './amqp-frames.ts'
import {
  Arguments,
  encodeMethod,
  methodOf,
  shortString,
  withContent,
  type MethodName,
} from './amqp-methods.ts'
import type { AmqpRule, AmqpRules, Seen } from './amqp-rules.ts'
import type { Session, Way } from './link.ts'
import type { Direction } from './rules.ts'

/** An alarm the proxy makes up, and who hears of each connection that was told. */
export interface Alarm {
  readonly reason: string
  told(): void
}

/** Reads both directions of one AMQP connection, and applies the rules to them. */
export class AmqpSession implements Session {
  readonly #way: Way
  readonly #rules: AmqpRules
  readonly #readers = { up: new FrameReader(), down: new FrameReader() }
  readonly #channels = new Map<number, AmqpChannel>()
  #alarm: Alarm | null
  #toldBlocked = false

  constructor(way: Way, rules: AmqpRules, alarm: Alarm | null) {
    this.#way = way
    this.#rules = rules
    this.#alarm = alarm
  }

  /** Queues the client consumes on this connection. */
  get queues(): readonly string[] {
    return [...this.#channels.values()].flatMap(({ queues }) => queues)
  }

  /** True once the client asked for confirms: it is here to publish. */
  get publishes(): boolean {
    return [...this.#channels.values()].some(({ ledger }) => ledger !== null)
  }

  take(direction: Direction, chunk: Buffer): void {
    for (const frame of this.#readers[direction].push(chunk)) this.#frame(direction, frame)
  }

  /** Closes every channel that matches, as a broker does after an error; returns how many. */
  closeChannels(matches: (channel: AmqpChannel) => boolean, code: number, text: string): number {
    const struck = [...this.#channels.values()].filter(
      (channel) => channel.number !== 0 && !channel.isClosing && matches(channel),
    )
    for (const channel of struck) channel.close(code, text)
    return struck.length
  }

  /** From now on (until `null`) a connection that publishes is told that the broker takes nothing. */
  block(alarm: Alarm | null): void {
    this.#alarm = alarm
    if (alarm !== null && this.publishes) this.#tellBlocked(alarm)
    if (alarm === null && this.#toldBlocked) {
      this.#toldBlocked = false
      this.#way.out('down', encodeMethod(0, 'connection.unblocked'))
    }
  }

  /** Answers that were held for this rule go to the client now. */
  release(rule: AmqpRule): void {
    for (const channel of this.#channels.values()) {
      for (const bytes of channel.ledger?.release(rule) ?? []) channel.flows.down.write(bytes)
    }
  }

  stop(): void {
    for (const channel of this.#channels.values()) channel.stop()
  }

  #frame(direction: Direction, frame: Frame): void {
    if (frame.type === frameType.preface || frame.type === frameType.heartbeat) {
      this.#way.out(direction, frame.bytes)
      return
    }
    const channel = this.#channel(frame.channel)
    const method = methodOf(frame)
    if (method === null) channel.flows[direction].content(frame)
    else this.#method(direction, channel, method, frame)
  }

  #method(direction: Direction, channel: AmqpChannel, method: MethodName, frame: Frame): void {
    const hasContent = withContent.has(method)
    const flow = channel.flows[direction]
    if (channel.swallows(direction, method)) return flow.method(frame, { drops: true, hasContent })
    const seen = channel.see(direction, method, frame)
    const rule = this.#rules.first(seen)
    const replaced = this.#confirms(channel, seen, rule, frame)
    if (rule?.action.do === 'reset') return this.#way.reset()
    if (rule?.action.do === 'delay') flow.delay(rule.action.ms)
    const drops = rule?.action.do === 'drop' || replaced !== null
    flow.method(frame, { drops, hasContent })
    if (rule?.action.do !== 'drop') for (const bytes of replaced ?? []) flow.write(bytes)
    if (rule?.action.do === 'close-channel') channel.close(rule.action.code, rule.action.text)
    if (method === 'channel.close-ok') this.#forget(channel)
  }

  /** Keeps the ledger of a confirm channel; what it returns goes to the client in place of an answer. */
  #confirms(
    channel: AmqpChannel,
    { direction, method }: Seen,
    rule: AmqpRule | null,
    frame: Frame,
  ): readonly Buffer[] | null {
    if (method === 'confirm.select-ok') {
      channel.beginConfirms()
      if (this.#alarm !== null) this.#tellBlocked(this.#alarm)
    }
    const { ledger } = channel
    if (ledger === null) return null
    if (method === 'basic.publish') {
      const does = rule?.action.do
      if (does === 'drop') throw new Error('a publish on a confirm channel cannot be dropped')
      ledger.published(does === 'lose-confirm' || does === 'hold-confirm' ? rule : null)
    }
    if (direction === 'up' || (method !== 'basic.ack' && method !== 'basic.nack')) return null
    const given = new Arguments(frame)
    return ledger.answered(method, given.tag(), given.bit())
  }

  #tellBlocked(alarm: Alarm): void {
    if (this.#toldBlocked) return
    this.#toldBlocked = true
    this.#way.out('down', encodeMethod(0, 'connection.blocked', shortString(alarm.reason)))
    alarm.told()
  }

  #channel(number: number): AmqpChannel {
    let channel = this.#channels.get(number)
    if (channel === undefined) {
      channel = new AmqpChannel(number, (direction, bytes) => this.#way.out(direction, bytes))
      this.#channels.set(number, channel)
    }
    return channel
  }

  /** A number that is used again is a new channel. */
  #forget(channel: AmqpChannel): void {
    if (this.#channels.get(channel.number) === channel) this.#channels.delete(channel.number)
  }
}
