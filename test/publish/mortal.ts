import type { Broker, Deadline, Report, Sender } from '../../src/contract/broker.ts'
import type { Clock } from '../../src/contract/clock.ts'
import type { Envelope } from '../../src/contract/message.ts'
import type { OutboxStore } from '../../src/contract/store.ts'

/**
 * What becomes of a process from outside: it can be frozen (SIGSTOP), thawed and killed. While it is
 * not alive, none of its calls begins and no answer reaches it.
 */
export class Life {
  #state: 'alive' | 'frozen' | 'dead' = 'alive'
  #waiting: (() => void)[] = []

  get isAlive(): boolean {
    return this.#state === 'alive'
  }

  freeze(): void {
    if (this.#state === 'alive') this.#state = 'frozen'
  }

  thaw(): void {
    if (this.#state !== 'frozen') return
    this.#state = 'alive'
    const waiting = this.#waiting
    this.#waiting = []
    for (const go of waiting) go()
  }

  kill(): void {
    this.#state = 'dead'
    this.#waiting = []
  }

  /** Goes on when it is alive: now, after it was thawed, or never. */
  goOn(go: () => void): void {
    if (this.#state === 'alive') go()
    else if (this.#state === 'frozen') this.#waiting.push(go)
  }
}

/** The clock as a process sees it: its timers do not run while it is frozen, and never after its death. */
export function mortalClock(clock: Clock, life: Life): Clock {
  return {
    now: () => clock.now(),
    wallMs: () => clock.wallMs(),
    after: (ms, task) => clock.after(ms, () => life.goOn(task)),
    defer: (task) => clock.defer(() => life.goOn(task)),
  }
}

/** A store whose calls take time, and whose answers a frozen or dead process does not get. */
export function mortalStore<Tx>(
  store: OutboxStore<Tx>,
  life: Life,
  clock: Clock,
  latencyMs: () => number,
): OutboxStore<Tx> {
  const call = <T>(work: () => Promise<T>): Promise<T> =>
    new Promise((resolve, reject) => {
      life.goOn(() => {
        clock.after(latencyMs(), () => {
          work().then(
            (value) => clock.after(latencyMs(), () => life.goOn(() => resolve(value))),
            (error: Error) => clock.after(latencyMs(), () => life.goOn(() => reject(error))),
          )
        })
      })
    })
  return {
    open: (context) => store.open(context),
    append: (tx, rows) => store.append(tx, rows),
    appendAlone: (rows) => call(() => store.appendAlone(rows)),
    lease: (owner, want, ttlMs) => call(() => store.lease(owner, want, ttlMs)),
    read: (leases, limit, skip) => call(() => store.read(leases, limit, skip)),
    complete: (leases, rows) => call(() => store.complete(leases, rows)),
    park: (leases, rows, reason) => call(() => store.park(leases, rows, reason)),
    promote: (leases, limit) => call(() => store.promote(leases, limit)),
    release: (leases) => call(() => store.release(leases)),
    stats: () => call(() => store.stats()),
    onAppended: (listener) => store.onAppended(() => life.goOn(listener)),
    close: () => store.close(),
  }
}

/** A broker that a dead process does not reach, and whose answers a frozen one does not get. */
export function mortalBroker(broker: Broker, life: Life): Broker {
  const senderOf = (purpose: 'publish' | 'relay' | 'settle'): Sender => {
    const sender = broker.sender(purpose)
    return {
      send: (batch: readonly Envelope[], deadline: Deadline, report: Report) => {
        if (!life.isAlive) return
        sender.send(batch, deadline, (from, to, outcome) => {
          life.goOn(() => report(from, to, outcome))
        })
      },
      close: (deadline) => sender.close(deadline),
    }
  }
  return {
    name: broker.name,
    open: (context) => broker.open(context),
    provision: (topology, mode) => broker.provision(topology, mode),
    audit: (topology) => broker.audit(topology),
    sender: senderOf,
    receive: (subscription, sink) => broker.receive(subscription, sink),
    onState: (listener) => broker.onState((state) => life.goOn(() => listener(state))),
    close: (deadline) => broker.close(deadline),
  }
}
