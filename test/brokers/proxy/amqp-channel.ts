import type { Frame } from './amqp-frames.ts'
import { Arguments, encodeChannelClose, encodeMethod, type MethodName } from './amqp-methods.ts'
import type { Seen } from './amqp-rules.ts'
import { ChannelFlow } from './channel-flow.ts'
import { ConfirmLedger } from './confirm-ledger.ts'
import type { Direction } from './rules.ts'

/** What the proxy knows of one channel. */
export class AmqpChannel {
  readonly number: number
  readonly flows: Readonly<Record<Direction, ChannelFlow>>
  #ledger: ConfirmLedger | null = null
  readonly #queues = new Map<string, string>()
  readonly #starting: string[] = []
  /** Who has not yet answered a close the proxy made. */
  readonly #unanswered = new Set<Direction>()

  constructor(number: number, out: (direction: Direction, bytes: Buffer) => void) {
    this.number = number
    this.flows = {
      up: new ChannelFlow((bytes) => out('up', bytes)),
      down: new ChannelFlow((bytes) => out('down', bytes)),
    }
  }

  /** Present once the broker promised confirms. */
  get ledger(): ConfirmLedger | null {
    return this.#ledger
  }

  beginConfirms(): void {
    this.#ledger ??= new ConfirmLedger(this.number)
  }

  /** Queues with a consumer on it. */
  get queues(): readonly string[] {
    return [...this.#starting, ...this.#queues.values()]
  }

  /** Reads what a rule may want to know, and remembers consumers. */
  see(direction: Direction, method: MethodName, frame: Frame): Seen {
    const seen = { direction, channel: this.number, method }
    const nothing = { ...seen, exchange: null, routingKey: null, queue: null }
    const given = new Arguments(frame)
    if (method === 'basic.publish') {
      given.short()
      return { ...nothing, exchange: given.shortString(), routingKey: given.shortString() }
    }
    if (method === 'basic.return') {
      given.short()
      given.shortString()
      return { ...nothing, exchange: given.shortString(), routingKey: given.shortString() }
    }
    if (method === 'basic.deliver') return this.#seeDelivery(nothing, given)
    if (method === 'basic.consume') {
      given.short()
      const queue = given.shortString()
      this.#starting.push(queue)
      return { ...nothing, queue }
    }
    if (method === 'basic.consume-ok') {
      const queue = this.#starting.shift() ?? null
      if (queue !== null) this.#queues.set(given.shortString(), queue)
      return { ...nothing, queue }
    }
    return nothing
  }

  #seeDelivery(nothing: Seen, given: Arguments): Seen {
    const queue = this.#queues.get(given.shortString()) ?? null
    given.tag()
    given.bit()
    return { ...nothing, queue, exchange: given.shortString(), routingKey: given.shortString() }
  }

  /** Closes it towards both sides, as soon as neither is in the middle of a message. */
  close(code: number, text: string): void {
    if (this.isClosing) return
    this.#unanswered.add('up').add('down')
    this.flows.up.between(() =>
      this.flows.up.write(encodeChannelClose(this.number, 200, 'closed on the way')),
    )
    this.flows.down.between(() =>
      this.flows.down.write(encodeChannelClose(this.number, code, text)),
    )
  }

  get isClosing(): boolean {
    return this.#unanswered.size > 0
  }

  /**
   * While it is being closed by the proxy: true for a method that must not go on. Each side's answer
   * to the close ends here, and what it wrote before it knew is void.
   */
  swallows(direction: Direction, method: MethodName): boolean {
    if (!this.#unanswered.has(direction)) return false
    if (method === 'channel.close-ok') this.#answered(direction)
    if (method === 'channel.close') this.#answerClose(direction)
    return true
  }

  stop(): void {
    this.flows.up.stop()
    this.flows.down.stop()
  }

  /** Once the client has answered, it may use the number for a new channel. */
  #answered(by: Direction): void {
    this.#unanswered.delete(by)
    if (by === 'down') return
    this.#ledger = null
    this.#queues.clear()
    this.#starting.length = 0
  }

  /** A side that closes it at the same time wants an answer of its own. */
  #answerClose(from: Direction): void {
    const back = from === 'up' ? 'down' : 'up'
    this.flows[back].write(encodeMethod(this.number, 'channel.close-ok'))
  }
}
