import type {
  BrokerContext,
  Deadline,
  DeliverySink,
  Sender,
  Subscription,
} from '../../src/contract/broker.ts'
import type { Emit } from '../../src/contract/events.ts'
import type { Group } from './group.ts'
import type { Link } from './link.ts'
import { MemoryReceiver, type ReceiverContext } from './receiver.ts'
import { Router } from './router.ts'
import { MemorySender, type SenderContext } from './sender.ts'
import type { Client, MemoryServer } from './server.ts'

/** What one open broker object has on the server: its senders and receivers, over one link. */
export class Connection implements Client, SenderContext, ReceiverContext {
  readonly server: MemoryServer
  readonly link: Link
  readonly router: Router
  readonly context: BrokerContext
  /** Called when the connection ends, whichever way. */
  readonly onClose: Set<() => void> = new Set<() => void>()
  readonly #senders = new Set<MemorySender>()
  readonly #receivers = new Set<MemoryReceiver>()
  #state: 'open' | 'ending' | 'vanished' = 'open'

  constructor(server: MemoryServer, link: Link, context: BrokerContext) {
    this.server = server
    this.link = link
    this.router = new Router(server)
    this.context = context
  }

  get emit(): Emit {
    return this.context.emit
  }

  get receivers(): ReadonlySet<MemoryReceiver> {
    return this.#receivers
  }

  /** Envelopes handed over and not reported, over all senders. */
  get unreported(): number {
    let count = 0
    for (const sender of this.#senders) count += sender.unreported
    return count
  }

  sender(): Sender {
    const sender: MemorySender = new MemorySender(this, () => this.#senders.delete(sender))
    this.#senders.add(sender)
    if (this.#state === 'vanished') sender.vanish()
    return sender
  }

  receive(
    subscription: Subscription,
    sink: DeliverySink,
    groups: readonly Group[],
  ): MemoryReceiver {
    const receiver = new MemoryReceiver(subscription, sink, groups, this)
    this.#receivers.add(receiver)
    if (this.#state === 'vanished') receiver.vanish()
    else if (this.connected()) receiver.join()
    return receiver
  }

  /** Whether settles and sources get through; a blocked link still carries them. */
  connected(): boolean {
    return this.link.state.status !== 'down'
  }

  closed(receiver: MemoryReceiver): void {
    this.#receivers.delete(receiver)
  }

  report(): void {
    for (const sender of this.#senders) sender.report()
  }

  resume(): void {
    for (const sender of this.#senders) {
      sender.resume()
      sender.answer()
    }
  }

  /** The link breaks: sources are lost, what was written stays without an answer. */
  down(reason: string): void {
    if (this.#state === 'open') this.link.fail(reason)
    for (const sender of this.#senders) sender.cut(reason)
    for (const receiver of this.#receivers) {
      const lost = receiver.leave()
      if (lost.length > 0) receiver.sink.lost(lost)
    }
  }

  /** The link is back: receivers get sources again, senders write what waits. */
  up(): void {
    this.link.recover()
    if (this.#state !== 'open') return
    this.link.up()
    for (const receiver of this.#receivers) receiver.join()
    this.resume()
  }

  /** Ends receivers at once and senders by the deadline; nothing is reported or delivered after it. */
  async close(deadline: Deadline): Promise<void> {
    if (this.#state === 'open') this.#state = 'ending'
    for (const receiver of [...this.#receivers]) receiver.end()
    for (const tell of this.onClose) tell()
    await Promise.all([...this.#senders].map((sender) => sender.close(deadline)))
    this.server.disconnect(this)
  }

  /** The end of a process: nothing is finished and nobody is told. */
  vanish(): void {
    this.#state = 'vanished'
    for (const receiver of [...this.#receivers]) receiver.vanish()
    for (const sender of this.#senders) sender.vanish()
    for (const tell of this.onClose) tell()
    this.server.disconnect(this)
  }
}
