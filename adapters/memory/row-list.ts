/** Rows in the order of their ids, whatever the order in which they become visible. */
export class RowList<T extends { readonly id: number }> {
  readonly #byId = new Map<number, T>()
  /** Sorted by id; deleted rows leave a gap until the next tidying. */
  #rows: T[] = []

  get size(): number {
    return this.#byId.size
  }

  find(id: number): T | undefined {
    return this.#byId.get(id)
  }

  insert(row: T): void {
    this.#byId.set(row.id, row)
    // A transaction that began earlier and commits later has lower ids: it goes between.
    let at = this.#rows.length
    while (at > 0 && (this.#rows[at - 1] as T).id > row.id) at--
    if (at === this.#rows.length) this.#rows.push(row)
    else this.#rows.splice(at, 0, row)
  }

  delete(id: number): void {
    this.#byId.delete(id)
    if (this.#rows.length > 64 && this.#rows.length > 2 * this.#byId.size) this.#tidy()
  }

  /** The first `limit` rows that are wanted. */
  first(limit: number, wanted: (row: T) => boolean): readonly T[] {
    const found: T[] = []
    for (const row of this.#rows) {
      if (found.length >= limit) break
      if (this.#byId.has(row.id) && wanted(row)) found.push(row)
    }
    return found
  }

  /** The row with the lowest id. */
  oldest(): T | undefined {
    return this.first(1, () => true)[0]
  }

  #tidy(): void {
    this.#rows = this.#rows.filter((row) => this.#byId.has(row.id))
  }
}
