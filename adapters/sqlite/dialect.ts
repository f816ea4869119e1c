import type { Dialect } from '../sql/dialect.ts'

/** SQLite: integer primary keys that are never used again, lists as JSON, the machine's clock. */
export const dialect: Dialect = Object.freeze({
  now: "CAST(round(unixepoch('subsec') * 1000) AS INTEGER)",
  types: Object.freeze({
    // Without AUTOINCREMENT the id of a deleted row may be given to a new one.
    id: 'INTEGER PRIMARY KEY AUTOINCREMENT',
    integer: 'INTEGER',
    text: 'TEXT',
    bytes: 'BLOB',
  }),
  // A bare parameter would be looked at when the statement is planned, so it would be planned anew each time.
  limit: 'LIMIT 0 + ?',
  clustered: ' WITHOUT ROWID',
  oneOf: (expression: string) => `${expression} IN (SELECT value FROM json_each(?))`,
  list: (values: readonly (number | string)[]) => JSON.stringify(values),
})
