import { ROW_VERSION } from '../sql/envelope.ts'
import {
  contenderTable,
  envelopeColumns,
  leaseTable,
  metaTable,
  type Table,
} from '../sql/schema.ts'
import { stillLeased } from '../sql/lease.ts'
import { dialect } from './dialect.ts'

/** What a queue holds: messages of a group, or those the group gave up. */
export const QUEUE_KIND = { group: 0, dead: 1 } as const

/** Why a row has or had a due time: its sender asked for later, or a handler for another try. */
export const DELAY = { none: 0, scheduled: 1, retry: 2 } as const

/** Declared topics, so that one without groups is not taken for one nobody declared. */
const topicTable: Table = {
  name: 'holdfast_topic',
  columns: [{ name: 'name', type: 'text', required: true }],
  primaryKey: ['name'],
}

/** Where messages wait for a group, or for an operator. Its id is the scope of its leases. */
const queueTable: Table = {
  name: 'holdfast_queue',
  columns: [
    { name: 'id', type: 'id' },
    { name: 'topic', type: 'text', required: true },
    { name: 'consumers', type: 'text', required: true },
    { name: 'kind', type: 'integer', required: true },
  ],
  unique: ['topic', 'consumers', 'kind'],
}

/** One row per message and queue; deleted when it is settled. */
const messageTable: Table = {
  name: 'holdfast_message',
  columns: [
    { name: 'id', type: 'id' },
    { name: 'queue', type: 'integer', required: true },
    { name: 'bucket', type: 'integer', required: true },
    { name: 'key_hash', type: 'integer', required: true },
    { name: 'due_at', type: 'integer' },
    { name: 'delay', type: 'integer', required: true, byDefault: DELAY.none },
    { name: 'attempt', type: 'integer', required: true, byDefault: 1 },
    ...envelopeColumns,
  ],
  indexes: [
    { name: 'holdfast_message_ready', columns: ['queue'], where: 'due_at IS NULL' },
    { name: 'holdfast_message_due', columns: ['queue', 'due_at'], where: 'due_at IS NOT NULL' },
    {
      name: 'holdfast_message_retry',
      columns: ['queue', 'key_hash'],
      where: `due_at IS NOT NULL AND delay = ${DELAY.retry}`,
    },
  ],
}

/** Tables of the embedded broker. */
export const brokerTables: readonly Table[] = [
  metaTable,
  leaseTable,
  contenderTable,
  topicTable,
  queueTable,
  messageTable,
]

const { limit, now } = dialect
// One bit per bucket: a list would be parsed anew by every claim.
const inMask = '(? >> bucket) & 1'
const envelope = 'message_id, time_ms, message_key, meta, body'
const mine = stillLeased('holdfast_message.queue', 'holdfast_message.bucket')

function oldest(due: string): string {
  return `SELECT id, ${envelope} FROM holdfast_message WHERE queue = ? AND due_at ${due} ORDER BY id ${limit}`
}

/** Names of the broker's statements. */
type BrokerStatement =
  | 'declareTopic'
  | 'topicExists'
  | 'declareQueue'
  | 'findQueue'
  | 'route'
  | 'insert'
  | 'insertAt'
  | 'insertIn'
  | 'claim'
  | 'claimOrdered'
  | 'handOut'
  | 'wakeDue'
  | 'remove'
  | 'retry'
  | 'lookRows'
  | 'lookLeases'
  | 'depth'
  | 'browse'

/** Statements of the broker; which parameters they take is written beside each. */
export const brokerSql: Readonly<Record<BrokerStatement, string>> = {
  /** topic */
  declareTopic: 'INSERT INTO holdfast_topic (name) VALUES (?) ON CONFLICT DO NOTHING',
  topicExists: 'SELECT 1 FROM holdfast_topic WHERE name = ?',
  /** topic, group, kind */
  declareQueue:
    'INSERT INTO holdfast_queue (topic, consumers, kind) VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING id',
  findQueue: 'SELECT id FROM holdfast_queue WHERE topic = ? AND consumers = ? AND kind = ?',
  /** topic → id of every group's queue */
  route: `SELECT id FROM holdfast_queue WHERE topic = ? AND kind = ${QUEUE_KIND.group}`,
  /** queue, bucket, key_hash, message_id, time_ms, message_key, meta, body */
  insert: `INSERT INTO holdfast_message (queue, bucket, key_hash, v, ${envelope}) VALUES (?, ?, ?, ${ROW_VERSION}, ?, ?, ?, ?, ?)`,
  /** due_at, as number of unix milliseconds; then as insert */
  insertAt: `INSERT INTO holdfast_message (due_at, delay, queue, bucket, key_hash, v, ${envelope}) VALUES (?, ${DELAY.scheduled}, ?, ?, ?, ${ROW_VERSION}, ?, ?, ?, ?, ?)`,
  /** delayMs; then as insert. One more millisecond: the clock's fraction was cut off. */
  insertIn: `INSERT INTO holdfast_message (due_at, delay, queue, bucket, key_hash, v, ${envelope}) VALUES (${now} + ? + 1, ${DELAY.scheduled}, ?, ?, ?, ${ROW_VERSION}, ?, ?, ?, ?, ?)`,
  /** queue, after this id, mask of buckets, limit */
  claim: `SELECT id, bucket, delay, attempt, ${envelope} FROM holdfast_message WHERE queue = ? AND due_at IS NULL AND id > ? AND v <= ${ROW_VERSION} AND ${inMask} ORDER BY id ${limit}`,
  /** As claim, but keeps a key back behind its earlier message that waits for its next try. */
  claimOrdered: `SELECT id, bucket, delay, attempt, ${envelope} FROM holdfast_message WHERE queue = ? AND due_at IS NULL AND id > ? AND v <= ${ROW_VERSION} AND ${inMask} AND NOT EXISTS (SELECT 1 FROM holdfast_message w WHERE w.queue = holdfast_message.queue AND w.due_at IS NOT NULL AND w.delay = ${DELAY.retry} AND w.key_hash = holdfast_message.key_hash AND w.key_hash <> 0 AND w.id < holdfast_message.id) ORDER BY id ${limit}`,
  /** handed_to, scope, bucket, owner, epoch */
  handOut:
    'UPDATE holdfast_lease SET handed_to = max(handed_to, ?) WHERE scope = ? AND bucket = ? AND owner = ? AND epoch = ?',
  /** queue */
  wakeDue: `UPDATE holdfast_message SET due_at = NULL WHERE queue = ? AND due_at <= ${now}`,
  /** id, owner, epoch */
  remove: `DELETE FROM holdfast_message WHERE id = ? AND ${mine}`,
  /** delayMs, id, owner, epoch */
  retry: `UPDATE holdfast_message SET due_at = ${now} + ? + 1, delay = ${DELAY.retry}, attempt = attempt + 1 WHERE id = ? AND ${mine}`,
  /** queue, after this id → rows, and in how many ms the next one is due */
  lookRows: `SELECT EXISTS (SELECT 1 FROM holdfast_message WHERE queue = q.id AND due_at IS NULL AND id > ?) AS rows, (SELECT min(due_at) - ${now} FROM holdfast_message WHERE queue = q.id AND due_at IS NOT NULL) AS due_in FROM holdfast_queue q WHERE q.id = ?`,
  /** owner, owner, scope → leases that are mine, that are free, in how many ms the next of others expires */
  lookLeases: `SELECT count(CASE WHEN owner = ? THEN 1 END) AS mine, count(CASE WHEN owner IS NULL OR expires_at <= ${now} THEN 1 END) AS free, min(CASE WHEN owner <> ? THEN expires_at - ${now} END) AS frees_in, (SELECT count(*) FROM holdfast_contender c WHERE c.scope = l.scope AND c.expires_at > ${now}) AS contenders FROM holdfast_lease l WHERE scope = ?`,
  /** queue, queue */
  depth:
    'SELECT (SELECT count(*) FROM holdfast_message WHERE queue = ? AND due_at IS NULL) + (SELECT count(*) FROM holdfast_message WHERE queue = ? AND due_at IS NOT NULL) AS count',
  /** queue, limit, queue, limit, limit: the oldest, whether or not they wait for a time */
  browse: `SELECT * FROM (${oldest('IS NULL')}) UNION ALL SELECT * FROM (${oldest('IS NOT NULL')}) ORDER BY id ${limit}`,
}
