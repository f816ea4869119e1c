import assert from 'node:assert/strict'

import type { Item } from './scene.ts'

/** What handlers did, in order: a line when one begins and one when it ends. */
export class HandlerLog {
  readonly began: Item[] = []
  readonly ended: Item[] = []
  /** Keys of which two handlers ran at once. */
  readonly overlaps: string[] = []
  readonly #running = new Map<string, number>()

  begin(item: Item): void {
    const running = this.#running.get(item.key) ?? 0
    if (running > 0) this.overlaps.push(item.key)
    this.#running.set(item.key, running + 1)
    this.began.push(item)
  }

  end(item: Item): void {
    this.#running.set(item.key, (this.#running.get(item.key) ?? 1) - 1)
    this.ended.push(item)
  }

  /** A handler that did not succeed: it no longer runs, and has no effect. */
  fail(item: Item): void {
    this.#running.set(item.key, (this.#running.get(item.key) ?? 1) - 1)
  }

  /** Numbers of the handlers of this key that ended, in order. */
  of(key: string): readonly number[] {
    return this.ended.filter((item) => item.key === key).map(({ n }) => n)
  }

  /** How many different items were handled to the end. */
  get distinct(): number {
    return new Set(this.ended.map(({ key, n }) => `${key}:${n}`)).size
  }

  /** Fails unless every item was handled once, each key in order and one at a time. */
  assertOnceInOrder(keys: readonly string[], each: number): void {
    const whole = Array.from({ length: each }, (_, n) => n)
    for (const key of keys) assert.deepEqual(this.of(key), whole, `handled of key ${key}`)
    assert.deepEqual(this.overlaps, [], 'keys of which two handlers ran at once')
  }
}
