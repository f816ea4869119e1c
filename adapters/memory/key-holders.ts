import type { Assignment } from './assignment.ts'
import type { Entry } from './queue.ts'

/** Messages that may wait behind a key whose holder has no room; beyond, the queue itself waits. */
const MOST_BACKLOG = 1_000

/**
 * Which receiver holds a key now, when several share a queue: the next message of that key may go to
 * nobody else. Messages whose holder has no room wait for it here, so that other keys flow.
 */
export class KeyHolders {
  readonly #byKey = new Map<string, { readonly source: Assignment; count: number }>()
  readonly #backlogs = new Map<Assignment, Entry[]>()
  #waiting = 0

  /** Starts from what the sources hold already. */
  constructor(sources: readonly Assignment[]) {
    for (const source of sources) {
      for (const { envelope } of source.remembered) this.add(envelope.orderKey, source)
    }
  }

  /** Messages that wait for the holder of their key. */
  get waiting(): number {
    return this.#waiting
  }

  /** The messages that wait, those of one key in order. */
  get entries(): readonly Entry[] {
    return [...this.#backlogs.values()].flat()
  }

  get full(): boolean {
    return this.#waiting >= MOST_BACKLOG
  }

  holderOf(key: string | null): Assignment | undefined {
    return key === null ? undefined : this.#byKey.get(key)?.source
  }

  add(key: string | null, source: Assignment): void {
    if (key === null) return
    const holder = this.#byKey.get(key)
    if (holder === undefined) this.#byKey.set(key, { source, count: 1 })
    else holder.count++
  }

  drop(key: string | null): void {
    const holder = key === null ? undefined : this.#byKey.get(key)
    if (holder !== undefined && --holder.count === 0) this.#byKey.delete(key as string)
  }

  /** Lets the message wait for that source; the key stays its own meanwhile. */
  wait(entry: Entry, source: Assignment): void {
    const backlog = this.#backlogs.get(source) ?? []
    backlog.push(entry)
    this.#backlogs.set(source, backlog)
    this.#waiting++
    this.add(entry.envelope.orderKey, source)
  }

  /** The next message that waits for that source, if it fits now. */
  next(source: Assignment): Entry | undefined {
    const backlog = this.#backlogs.get(source)
    const entry = backlog?.[0]
    if (entry === undefined || !source.canTake(entry.envelope.body?.length ?? 0)) return undefined
    backlog?.shift()
    this.#waiting--
    this.drop(entry.envelope.orderKey)
    return entry
  }

  /** All that waits, for going back to its place. */
  clear(): Entry[] {
    const entries = [...this.entries]
    this.#backlogs.clear()
    this.#byKey.clear()
    this.#waiting = 0
    return entries
  }
}
