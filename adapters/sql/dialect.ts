/** A value as a database driver takes it. */
export type BoundValue = null | number | bigint | string | Uint8Array | readonly unknown[]

/** Kinds of columns holdfast uses. `id`: assigned by the database, growing, never used again. */
export type ColumnType = 'id' | 'integer' | 'text' | 'bytes'

/**
 * What differs between databases in the statements of this folder. Parameters are written `?`; a
 * dialect with numbered ones numbers them from left to right.
 */
export interface Dialect {
  /** Unix milliseconds on the database's clock, as a whole number. */
  readonly now: string
  readonly types: Readonly<Record<ColumnType, string>>
  /** Follows a table whose rows are stored in the order of its primary key. */
  readonly clustered: string
  /** Bounds the rows of a statement by one parameter. */
  readonly limit: string
  /** True where the expression is one of the values bound as one parameter, made by `list`. */
  oneOf(expression: string): string
  list(values: readonly (number | string)[]): BoundValue
}
