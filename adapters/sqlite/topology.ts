import type { Finding, TopicTopology, Topology } from '../../src/contract/topology.ts'
import {
  checkedGroupName,
  checkedTopicName,
  deadName,
  queueName,
} from '../../src/contract/names.ts'
import { BUCKETS } from '../sql/lease.ts'
import { brokerSql, QUEUE_KIND } from './broker-schema.ts'
import type { SqliteFile } from './file.ts'
import { makeLeases } from './leases.ts'
import type { Prepared } from './prepared.ts'

/** Makes what is missing, as part of a transaction; a new group starts with what is published from now on. */
export function createTopology(db: Prepared, { topics }: Topology): void {
  for (const { name, groups } of topics) {
    db.run(brokerSql.declareTopic, checkedTopicName(name))
    for (const group of groups) createGroup(db, name, group)
  }
}

/** What is missing, as findings of severity error. */
export function missingTopology(db: Prepared, { topics }: Topology): readonly Finding[] {
  return topics.flatMap((topic) => missingOf(db, topic))
}

/** Settings the promise depends on, as the file has them now. */
export function auditFile(file: SqliteFile): readonly Finding[] {
  const { journalMode, synchronous } = file.durability()
  const findings: Finding[] = []
  if (journalMode !== 'wal') {
    findings.push({
      severity: 'error',
      code: 'sqlite.journal-mode',
      subject: file.path,
      message: 'somebody changed journal_mode: readers and the writer block each other',
      declared: 'wal',
      found: journalMode,
    })
  }
  if (synchronous < 2) {
    findings.push({
      severity: 'error',
      code: 'sqlite.synchronous',
      subject: file.path,
      message: 'a power loss takes committed transactions with it',
      declared: '2 (FULL)',
      found: String(synchronous),
    })
  }
  return findings
}

function createGroup(db: Prepared, topic: string, group: string): void {
  // Both derived names are checked, so that nothing is declared here that another broker could not take.
  queueName(topic, checkedGroupName(group))
  deadName(topic, group)
  const made = db.get(brokerSql.declareQueue, topic, group, QUEUE_KIND.group)
  if (made !== undefined) makeLeases(db, made['id'] as number, BUCKETS)
  db.get(brokerSql.declareQueue, topic, group, QUEUE_KIND.dead)
}

function missingOf(db: Prepared, { name, groups }: TopicTopology): readonly Finding[] {
  if (db.get(brokerSql.topicExists, name) === undefined) {
    const message = "the topic is not declared in this file: use topology: 'create' once"
    return [{ severity: 'error', code: 'sqlite.topic-missing', subject: name, message }]
  }
  const missing = groups.filter(
    (group) => db.get(brokerSql.findQueue, name, group, QUEUE_KIND.group) === undefined,
  )
  return missing.map((group) => ({
    severity: 'error',
    code: 'sqlite.group-missing',
    subject: `${name}.${group}`,
    message: "the group is not declared in this file: use topology: 'create' once",
  }))
}
