import type { Finding, TopicTopology, Topology } from '../../src/contract/topology.ts'
import { isLoopback } from './addresses.ts'
import { lookAtAnchor } from './anchors.ts'
import { brokerFindings } from './broker-settings.ts'
import type { BrokerDescription, DriverAdmin } from './driver.ts'
import { durabilityOf } from './durability.ts'
import { findTopic, missing, type FoundTopic } from './found.ts'
import type { Resolved } from './options.ts'
import type { TopicTable } from './topics.ts'
import { strictly } from './warnings.ts'

/** What the audit asks. */
export interface AuditOptions {
  readonly admin: DriverAdmin
  readonly topics: TopicTable
  readonly options: Resolved
}

/** Where Kafka keeps the offsets of all groups. */
const OFFSETS_TOPIC = '__consumer_offsets'
/** Weak settings of connection, cluster, topics and groups. Rejects when the cluster cannot be asked. */
export async function audit(
  topology: Topology,
  { admin, topics, options }: AuditOptions,
): Promise<readonly Finding[]> {
  const findings = [...auditConnection(options)]
  const description = await admin.describeBroker()
  findings.push(...clusterFindings(description))
  for (const node of description.brokers) {
    findings.push(...brokerFindings(node, (await admin.describeBroker(node)).config, options))
  }
  const offsets = await findTopic(admin, OFFSETS_TOPIC, 'offsets')
  if (offsets !== null) findings.push(...durabilityOf(offsets, null))
  for (const topic of topology.topics) {
    findings.push(...(await auditTopic(topic, { admin, topics, options })))
  }
  return strictly(options.strict, findings)
}

/** What the options say about eavesdroppers. */
export function auditConnection({ addresses, tls, sasl }: Resolved): readonly Finding[] {
  const findings: Finding[] = []
  const add = (code: string, subject: string, message: string): void => {
    findings.push({ severity: 'warning', code: `kafka.${code}`, subject, message })
  }
  for (const address of tls === null ? addresses : []) {
    if (isLoopback(address)) continue
    const what = sasl?.mechanism === 'plain' ? 'password and messages' : 'messages'
    add('plaintext', address, `${what} cross the network unencrypted: use the option tls`)
  }
  if (tls?.rejectUnauthorized === false) {
    const text = 'anybody may pretend to be the broker: give tls.ca instead'
    add('tls-unverified', 'tls.rejectUnauthorized', text)
  }
  return findings
}

function clusterFindings({ brokers, config }: BrokerDescription): readonly Finding[] {
  const findings: Finding[] = []
  if (brokers.length < 3) {
    findings.push({
      severity: 'warning',
      code: 'kafka.cluster-size',
      subject: 'cluster',
      message:
        'a stored message survives the loss of a broker with its disk on three brokers, not on fewer',
      declared: 'at least 3',
      found: String(brokers.length),
    })
  }
  if (Object.keys(config).length === 0) {
    findings.push({
      severity: 'info',
      code: 'kafka.audit-partial',
      subject: 'cluster',
      message:
        'the user of the connection may not describe brokers: their settings were not audited',
    })
  }
  return findings
}

async function auditTopic(
  { name, groups, retryLevelsMs }: TopicTopology,
  { admin, topics }: AuditOptions,
): Promise<readonly Finding[]> {
  const names = topics.names(name)
  const source = await findTopic(admin, names.topic, 'source')
  if (source === null) return [missing(names.topic, names.isMapped)]
  const findings = [...durabilityOf(source, null)]
  for (const group of groups) {
    const levels = await topics.retryTopics(name, group)
    const wanted = [0, ...retryLevelsMs].map((level) => names.retry(group, level))
    const all = new Set([...levels.map(({ topic }) => topic), ...wanted])
    for (const topic of all) findings.push(...(await auditCompanion(admin, topic, 'retry', source)))
    const dead = names.dead(group)
    findings.push(...(await auditCompanion(admin, dead, 'dead', source)))
    const isKnown = (await admin.partitions(dead)) !== null
    const about = { topic: source.name, groupId: names.groupId(group), isKnown }
    findings.push(...(await lookAtAnchor(admin, about)))
  }
  return findings
}

async function auditCompanion(
  admin: DriverAdmin,
  name: string,
  role: 'retry' | 'dead',
  source: FoundTopic,
): Promise<readonly Finding[]> {
  const topic = await findTopic(admin, name, role)
  return topic === null ? [missing(name)] : durabilityOf(topic, source)
}
