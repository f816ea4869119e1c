import type { Broker, Delivery, DeliverySink, Source } from '../../../src/contract/broker.ts'
import { contentHash } from '../../conformance/checker/history.ts'
import { GROUP } from './goods.ts'
import type { Journal } from './journal.ts'

/** A delivery that is handed over and not settled yet. */
interface Open {
  readonly name: string
  readonly id: string
  readonly source: Source
}

/**
 * Writes down what passes between a broker and its consumer: every delivery, how it was settled, and
 * sources that were taken away. It stands outside of both, so neither has to be believed.
 */
export class Tap {
  readonly #journal: Journal
  readonly #open = new Map<Delivery, Open>()
  readonly #lost = new WeakSet<Source>()
  /** Where deliveries were read that are being dead-lettered. */
  readonly #dying = new Set<string>()
  #count = 0

  constructor(journal: Journal) {
    this.#journal = journal
  }

  /** The broker with this tap in its receivers. */
  of(broker: Broker): Broker {
    return {
      name: broker.name,
      open: (context) => broker.open(context),
      provision: (topology, mode) => broker.provision(topology, mode),
      audit: (topology) => broker.audit(topology),
      sender: (purpose) => broker.sender(purpose),
      receive: (subscription, sink) => broker.receive(subscription, this.#into(sink)),
      onState: (listener) => broker.onState(listener),
      close: (deadline) => broker.close(deadline),
      ...(broker.inspect === undefined ? {} : { inspect: broker.inspect }),
    }
  }

  /** Name of the delivery that a handler of this message has: the oldest open one, best one still ours. */
  handling(id: string): string {
    const open = [...this.#open.values()].filter((one) => one.id === id)
    const handled = open.find(({ source }) => !this.#lost.has(source)) ?? open[0]
    if (handled === undefined) throw new Error(`a handler of ${id}, which was not delivered`)
    return handled.name
  }

  /** Its acknowledgement will mean that it was dead-lettered. */
  dying(at: string): void {
    this.#dying.add(at)
  }

  #into(sink: DeliverySink): DeliverySink {
    return {
      deliver: (source, batch) => {
        for (const delivery of batch) this.#delivered(delivery, source)
        sink.deliver(source, batch)
      },
      revoking: (sources, deadline) => sink.revoking(sources, deadline),
      lost: (sources) => {
        for (const source of sources) this.#take(source)
        sink.lost(sources)
      },
      ended: (error) => sink.ended(error),
    }
  }

  #delivered(delivery: Delivery, source: Source): void {
    const { envelope, attempt, redelivered, at } = delivery
    const open = { name: `${at}~${this.#count++}`, id: String(envelope.id), source }
    this.#open.set(delivery, open)
    this.#write('deliver', open, {
      attempt,
      redelivered: redelivered !== 'no',
      hash: contentHash(envelope),
    })
    this.#listen(delivery)
  }

  /** The object stays the broker's own, which knows its deliveries by their class. */
  #listen(delivery: Delivery): void {
    const ack = delivery.ack.bind(delivery)
    const release = delivery.release.bind(delivery)
    const retry = delivery.retry?.bind(delivery)
    delivery.ack = () => {
      this.#settled(delivery, this.#dying.delete(delivery.at) ? 'dead' : 'ack')
      ack()
    }
    delivery.release = () => {
      this.#settled(delivery, 'release')
      release()
    }
    if (retry === undefined) return
    delivery.retry = (delayMs) => {
      const waits = retry(delayMs)
      if (waits) this.#settled(delivery, 'retry')
      return waits
    }
  }

  /** A settle of a lost source does nothing, so it is none. */
  #settled(delivery: Delivery, outcome: string): void {
    const open = this.#open.get(delivery)
    this.#open.delete(delivery)
    if (open !== undefined && !this.#lost.has(open.source)) this.#write('settle', open, { outcome })
  }

  /** Each delivery by itself: the process may hold others of the group, from sources it keeps. */
  #take(source: Source): void {
    this.#lost.add(source)
    for (const open of this.#open.values()) {
      if (open.source === source) this.#write('settle', open, { outcome: 'lost' })
    }
  }

  #write(op: 'deliver' | 'settle', { name, id }: Open, facts: object): void {
    this.#journal.write(op, 'ok', { msgId: id, group: GROUP, delivery: name, ...facts })
  }
}
