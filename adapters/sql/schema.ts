import type { ColumnType, Dialect } from './dialect.ts'

/** One column; `null`able unless `required`. */
export interface Column {
  readonly name: string
  readonly type: ColumnType
  readonly required?: boolean
  readonly byDefault?: number
}

/** An index over columns, for the rows that satisfy `where`. */
export interface Index {
  readonly name: string
  readonly columns: readonly string[]
  readonly where?: string
}

/** A table as data. Without `primaryKey` its first column is the id. */
export interface Table {
  readonly name: string
  readonly columns: readonly Column[]
  readonly primaryKey?: readonly string[]
  readonly unique?: readonly string[]
  readonly indexes?: readonly Index[]
}

/** The statements that make a table and its indexes where they are missing. */
export function createStatements(table: Table, dialect: Dialect): readonly string[] {
  const lines = table.columns.map((column) => columnLine(column, dialect))
  if (table.primaryKey) lines.push(`PRIMARY KEY (${table.primaryKey.join(', ')})`)
  if (table.unique) lines.push(`UNIQUE (${table.unique.join(', ')})`)
  const end = table.primaryKey ? dialect.clustered : ''
  return [
    `CREATE TABLE IF NOT EXISTS ${table.name} (${lines.join(', ')})${end}`,
    ...(table.indexes ?? []).map((index) => indexStatement(table, index)),
  ]
}

function columnLine({ name, type, required, byDefault }: Column, dialect: Dialect): string {
  const fallback = byDefault === undefined ? '' : ` DEFAULT ${byDefault}`
  return `${name} ${dialect.types[type]}${required ? ' NOT NULL' : ''}${fallback}`
}

function indexStatement(table: Table, { name, columns, where }: Index): string {
  const rows = where === undefined ? '' : ` WHERE ${where}`
  return `CREATE INDEX IF NOT EXISTS ${name} ON ${table.name} (${columns.join(', ')})${rows}`
}

/** Columns of an envelope; how they are filled is written in envelope.ts. */
export const envelopeColumns: readonly Column[] = [
  { name: 'v', type: 'integer', required: true },
  { name: 'message_id', type: 'text' },
  { name: 'time_ms', type: 'integer' },
  { name: 'message_key', type: 'bytes' },
  { name: 'meta', type: 'text' },
  { name: 'body', type: 'bytes' },
]

/** Version of the schema, number of buckets and the like. */
export const metaTable: Table = {
  name: 'holdfast_meta',
  columns: [
    { name: 'name', type: 'text', required: true },
    { name: 'value', type: 'integer', required: true },
  ],
  primaryKey: ['name'],
}

/** Who owns which bucket of a scope, under which epoch, until when; and up to where its rows were handed out. */
export const leaseTable: Table = {
  name: 'holdfast_lease',
  columns: [
    { name: 'scope', type: 'integer', required: true },
    { name: 'bucket', type: 'integer', required: true },
    { name: 'owner', type: 'text' },
    { name: 'epoch', type: 'integer', required: true, byDefault: 0 },
    { name: 'expires_at', type: 'integer', required: true, byDefault: 0 },
    { name: 'handed_to', type: 'integer', required: true, byDefault: 0 },
  ],
  primaryKey: ['scope', 'bucket'],
}

/** Everybody who wants buckets of a scope, between whom they are shared. */
export const contenderTable: Table = {
  name: 'holdfast_contender',
  columns: [
    { name: 'scope', type: 'integer', required: true },
    { name: 'owner', type: 'text', required: true },
    { name: 'expires_at', type: 'integer', required: true },
  ],
  primaryKey: ['scope', 'owner'],
}

const outboxColumns: readonly Column[] = [
  { name: 'bucket', type: 'integer', required: true },
  { name: 'key_hash', type: 'integer', required: true },
  { name: 'topic', type: 'text', required: true },
  { name: 'created_at', type: 'integer', required: true },
  ...envelopeColumns,
]

/** Rows waiting for the relay: deleted when they are confirmed, so the table stays small and needs no index. */
const outboxTable: Table = {
  name: 'holdfast_outbox',
  columns: [{ name: 'id', type: 'id' }, ...outboxColumns],
}

/** Rows that wait for their time. */
const scheduledTable: Table = {
  name: 'holdfast_outbox_scheduled',
  columns: [
    { name: 'id', type: 'id' },
    { name: 'due_at', type: 'integer', required: true },
    ...outboxColumns,
  ],
  indexes: [{ name: 'holdfast_outbox_scheduled_due', columns: ['due_at'] }],
}

/** Rows that could not be published, with the reason. */
const deadTable: Table = {
  name: 'holdfast_outbox_dead',
  columns: [
    { name: 'id', type: 'id' },
    { name: 'outbox_id', type: 'integer', required: true },
    { name: 'reason', type: 'text', required: true },
    { name: 'dead_at', type: 'integer', required: true },
    ...outboxColumns,
  ],
}

/** What was handled: once per consumer and message. */
const inboxTable: Table = {
  name: 'holdfast_inbox',
  columns: [
    { name: 'consumer', type: 'text', required: true },
    { name: 'message_id', type: 'text', required: true },
    { name: 'at', type: 'integer', required: true },
    { name: 'kept', type: 'integer', required: true, byDefault: 0 },
  ],
  primaryKey: ['consumer', 'message_id'],
  indexes: [{ name: 'holdfast_inbox_at', columns: ['at'], where: 'kept = 0' }],
}

/** Starts of handling that may have crashed before. */
const attemptTable: Table = {
  name: 'holdfast_attempt',
  columns: [
    { name: 'consumer', type: 'text', required: true },
    { name: 'message_id', type: 'text', required: true },
    { name: 'started', type: 'integer', required: true },
    { name: 'at', type: 'integer', required: true },
  ],
  primaryKey: ['consumer', 'message_id'],
}

/** Tables of each part that can be in a database by itself. */
export const outboxTables: readonly Table[] = [
  metaTable,
  leaseTable,
  contenderTable,
  outboxTable,
  scheduledTable,
  deadTable,
]
export const inboxTables: readonly Table[] = [metaTable, inboxTable, attemptTable]
