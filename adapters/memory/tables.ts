/** What is committed: rows by table and key, in the order in which keys first came. */
export class Tables {
  readonly #tables = new Map<string, Map<string, unknown>>()

  get(table: string, key: string): unknown {
    return this.#tables.get(table)?.get(key)
  }

  has(table: string, key: string): boolean {
    return this.#tables.get(table)?.has(key) ?? false
  }

  entries(table: string): IterableIterator<[string, unknown]> {
    return (this.#tables.get(table) ?? new Map<string, unknown>()).entries()
  }

  set(table: string, key: string, value: unknown): void {
    const rows = this.#tables.get(table)
    if (rows === undefined) this.#tables.set(table, new Map([[key, value]]))
    else rows.set(key, value)
  }

  delete(table: string, key: string): void {
    this.#tables.get(table)?.delete(key)
  }
}

/** A change of one row; without a value the row is gone. */
export interface Change {
  readonly table: string
  readonly key: string
  readonly value: { readonly row: unknown } | null
}

/** What a transaction changed since its last savepoint, and which locks it took for that. */
export class Layer {
  readonly changes: Map<string, Change> = new Map<string, Change>()
  readonly locks: Set<string> = new Set<string>()
  /** Done at the commit, in order: what is not a row of a table. */
  readonly onCommit: (() => void)[] = []

  find(table: string, key: string): Change | undefined {
    return this.changes.get(lockName(table, key))
  }

  note(change: Change): void {
    const name = lockName(change.table, change.key)
    this.changes.delete(name)
    this.changes.set(name, change)
  }

  /** Takes over everything of the layer above. */
  absorb(above: Layer): void {
    for (const change of above.changes.values()) this.note(change)
    for (const name of above.locks) this.locks.add(name)
    this.onCommit.push(...above.onCommit)
  }

  applyTo(tables: Tables): void {
    for (const { table, key, value } of this.changes.values()) {
      if (value === null) tables.delete(table, key)
      else tables.set(table, key, value.row)
    }
    for (const act of this.onCommit) act()
  }
}

/** One name for a row, whatever is in table and key. */
export function lockName(table: string, key: string): string {
  return `${table.length}:${table}:${key}`
}
