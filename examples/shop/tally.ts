import { readdirSync } from 'node:fs'
import { join } from 'node:path'

import { HistoryTail, type HistoryEvent } from './history.ts'

/** The first time a handler ran for a message. */
interface FirstDelivery {
  readonly order: string
  readonly key: string
  readonly line: number
  at: number
}

/** A time without the broker, as the process that caused it tells it. */
export interface Outage {
  readonly from: number
  readonly to: number
  readonly ms: number
}

/** All of a kind, and why others did not happen. */
export interface Aways {
  readonly all: Outage[]
  readonly failures: string[]
  since: number
}

/** What all the histories of a run say together. */
export class Tally {
  /** Orders that the intake saw committed. */
  readonly taken: Set<string> = new Set<string>()
  /** Moments at which orders were taken. */
  readonly takenAt: number[] = []
  readonly failedOnce: Set<string> = new Set<string>()
  readonly kills: Map<string, number> = new Map<string, number>()
  readonly crashes: Map<string, number> = new Map<string, number>()
  readonly outages: Aways = { all: [], failures: [], since: 0 }
  readonly restarts: Aways = { all: [], failures: [], since: 0 }
  /** Handlers that ran for a message that had been handed to one before. */
  handledAgain = 0
  /** Deliveries that only the inbox saw. */
  duplicates = 0
  /** Lines that are not whole. */
  torn = 0

  /** Message id → reason. */
  readonly #dead = new Map<string, string>()
  readonly #first = new Map<string, FirstDelivery>()

  /** Reads every history in the folder. */
  static of(dir: string): Tally {
    const tally = new Tally()
    for (const name of readdirSync(dir).filter((one) => one.endsWith('.history.ndjson'))) {
      const tail = new HistoryTail(join(dir, name))
      tail.read((event) => tally.#add(event))
      tally.torn += tail.torn
    }
    return tally
  }

  /** Orders for which a handler ran. */
  get delivered(): ReadonlySet<string> {
    return new Set([...this.#first.values()].map(({ order }) => order))
  }

  /** Order id → reason, of the messages that went to the dead letters; the message's id where no handler saw it. */
  deadOrders(): ReadonlyMap<string, string> {
    const orders = [...this.#dead].map(([message, reason]) => {
      return [this.#first.get(message)?.order ?? message, reason] as const
    })
    return new Map(orders)
  }

  /** Orders whose first delivery came after that of a later order of the same key. */
  outOfOrder(): readonly string[] {
    const highest = new Map<string, number>()
    const late: string[] = []
    for (const { order, key, line } of [...this.#first.values()].toSorted((a, b) => a.at - b.at)) {
      const before = highest.get(key) ?? 0
      if (line < before) late.push(order)
      highest.set(key, Math.max(before, line))
    }
    return late
  }

  #add(event: HistoryEvent): void {
    switch (event.op) {
      case 'order':
        if (event.phase === 'ok') this.#taken(event.id, event.at)
        return
      case 'charge':
        if (event.phase === 'invoke') this.#handed(event)
        else if (event.phase === 'fail') this.failedOnce.add(event.id)
        return
      case 'duplicate':
        this.duplicates++
        return
      case 'dead':
        if (event.message !== null) this.#dead.set(event.message, event.reason)
        return
      case 'kill':
        this.kills.set(event.victim, (this.kills.get(event.victim) ?? 0) + 1)
        return
      case 'crash':
        this.crashes.set(event.victim, (this.crashes.get(event.victim) ?? 0) + 1)
        return
      case 'outage':
        return addAway(this.outages, event)
      case 'restart':
        return addAway(this.restarts, event)
      case 'start':
      case 'publish':
      case 'park':
      case 'done':
    }
  }

  #taken(id: string, at: number): void {
    this.taken.add(id)
    this.takenAt.push(at)
  }

  #handed({ id, message, key, line, at }: HistoryEvent & { readonly op: 'charge' }): void {
    const before = this.#first.get(message)
    if (before === undefined) {
      this.#first.set(message, { order: id, key: key ?? '', line: line ?? 0, at })
    } else {
      this.handledAgain++
      before.at = Math.min(before.at, at)
    }
  }
}

function addAway(aways: Aways, event: HistoryEvent & { op: 'outage' | 'restart' }): void {
  const { phase, at, ms = 0, reason = 'unknown' } = event
  if (phase === 'invoke') aways.since = at
  else if (phase === 'ok') aways.all.push({ from: aways.since, to: at, ms })
  else aways.failures.push(reason)
}
