import type { Emit, EventType, HoldfastEvent } from '../contract/events.ts'

/** Receives events. What it throws or rejects with is swallowed: a listener cannot hurt delivery. */
export type Listener = (event: HoldfastEvent) => void

/** A listener and, optionally, the only types it wants; events nobody wants are never built. */
interface Subscription {
  readonly listener: Listener
  readonly types: ReadonlySet<EventType> | null
}

/** The one event stream of a publisher, consumer or relay; logs, metrics and tracing subscribe to it. */
export class Emitter {
  readonly emit: Emit
  #subscriptions: readonly Subscription[] = []
  #failed = 0

  constructor(listener?: Listener) {
    this.emit = Object.assign((event: HoldfastEvent) => this.#tell(event), {
      wants: (type: EventType) => this.#wants(type),
    })
    if (listener !== undefined) this.on(listener)
  }

  /** Events a listener threw on, or rejected for. */
  get failed(): number {
    return this.#failed
  }

  /** Adds a listener, for all events or for the named types; returns how to remove it. */
  on(listener: Listener, types?: readonly EventType[]): () => void {
    const subscription = { listener, types: types === undefined ? null : new Set(types) }
    this.#subscriptions = [...this.#subscriptions, subscription]
    return () => {
      this.#subscriptions = this.#subscriptions.filter((one) => one !== subscription)
    }
  }

  #wants(type: EventType): boolean {
    for (const { types } of this.#subscriptions) {
      if (types === null || types.has(type)) return true
    }
    return false
  }

  #tell(event: HoldfastEvent): void {
    for (const { listener, types } of this.#subscriptions) {
      if (types !== null && !types.has(event.type)) continue
      try {
        const result: unknown = listener(event)
        if (result !== undefined) this.#watch(result)
      } catch {
        this.#failed++
      }
    }
  }

  /** An async function is a listener too, and nobody else hears what it rejects with. */
  #watch(result: unknown): void {
    if (typeof (result as PromiseLike<unknown> | null)?.then !== 'function') return
    Promise.resolve(result).catch(() => void this.#failed++)
  }
}
