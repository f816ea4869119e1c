import type { Cancel, Clock } from '../../src/contract/clock.ts'

/** Who waits for a lock, and how it is told. */
interface Waiter {
  readonly owner: object
  readonly end: (got: boolean) => void
}

/** Row locks: one owner at a time, the others in line, nobody for longer than the limit. */
export class Locks {
  readonly #owners = new Map<string, object>()
  readonly #lines = new Map<string, Waiter[]>()

  /** True when the owner has it, at once or after waiting; false when the time is over. */
  take(name: string, owner: object, clock: Clock, limitMs: number): Promise<boolean> {
    const holder = this.#owners.get(name)
    if (holder === undefined) this.#owners.set(name, owner)
    if (holder === undefined || holder === owner) return Promise.resolve(true)
    return limitMs === 0 ? Promise.resolve(false) : this.#wait(name, owner, clock, limitMs)
  }

  /** Gives the lock to the next in line. */
  release(name: string): void {
    const next = this.#lines.get(name)?.[0]
    if (next === undefined) this.#owners.delete(name)
    else {
      this.#owners.set(name, next.owner)
      next.end(true)
    }
  }

  /** Nobody waits any longer for anything the owner asked for. */
  giveUp(owner: object): void {
    for (const line of [...this.#lines.values()]) {
      for (const waiter of line.filter((one) => one.owner === owner)) waiter.end(false)
    }
  }

  #wait(name: string, owner: object, clock: Clock, limitMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      const line = this.#lines.get(name) ?? []
      this.#lines.set(name, line)
      let cancel: Cancel | null = null
      const waiter: Waiter = {
        owner,
        end: (got) => {
          cancel?.()
          line.splice(line.indexOf(waiter), 1)
          if (line.length === 0) this.#lines.delete(name)
          resolve(got)
        },
      }
      line.push(waiter)
      cancel = clock.after(limitMs, () => waiter.end(false))
    })
  }
}
