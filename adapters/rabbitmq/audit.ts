import { isHoldfastError } from '../../src/contract/errors.ts'
import type { Finding, Topology } from '../../src/contract/topology.ts'
import { isAtLeast, type Version } from './capabilities.ts'
import { exists } from './declare.ts'
import { missing } from './found.ts'
import type { ExchangeInfo, Management, NodeInfo } from './management.ts'
import type { Operations } from './operations.ts'
import type { Resolved } from './options.ts'
import { auditQueue } from './queue-audit.ts'
import type { TopicTable } from './topics.ts'
import { urlText } from './url-text.ts'
import { wantedOf, type WantedExchange, type WantedQueue } from './wanted.ts'

/** What the audit asks. */
export interface AuditOptions {
  readonly operations: Operations
  readonly management: Management | null
  readonly topics: TopicTable
  readonly options: Resolved
  readonly version: Version
}

/** First version this adapter is tested with. */
const OLDEST: Version = [4, 0, 0]

/** Weak settings of connection, cluster, exchanges and queues. Rejects when the broker cannot be reached. */
export async function audit(topology: Topology, about: AuditOptions): Promise<readonly Finding[]> {
  const findings = [...auditConnection(about.options), ...auditVersion(about.version)]
  const nodes = await auditCluster(about.management, findings)
  for (const topic of topology.topics) {
    const plan = about.topics.of(topic.name)
    const wanted = wantedOf(plan, topic, { ...about.options, version: about.version })
    for (const one of wanted) {
      if (one.kind === 'queue') findings.push(...(await auditOne(one, nodes, about)))
      else if (one.kind === 'exchange') findings.push(...(await auditExchange(one, nodes, about)))
    }
  }
  return findings
}

/** What the options say about eavesdroppers. */
export function auditConnection({ urls, tls }: Resolved): readonly Finding[] {
  const findings: Finding[] = urls.filter(isPlainOffHost).map((url) => ({
    severity: 'warning',
    code: 'rabbitmq.plain-amqp',
    subject: urlText(url),
    message: 'log-in and messages cross the network unencrypted: use amqps://',
  }))
  if (tls?.rejectUnauthorized === false) {
    findings.push({
      severity: 'warning',
      code: 'rabbitmq.tls-unverified',
      subject: 'tls.rejectUnauthorized',
      message: 'anybody may pretend to be the broker: give tls.ca instead',
      declared: 'true',
      found: 'false',
    })
  }
  return findings
}

function isPlainOffHost(url: string): boolean {
  const { protocol, hostname } = new URL(url)
  return protocol === 'amqp:' && !/^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname)
}

function auditVersion(version: Version): readonly Finding[] {
  if (isAtLeast(version, OLDEST)) return []
  const text =
    'older than what this adapter is tested with: quorum queues have no delivery limit of their own, among others'
  return [
    {
      severity: 'warning',
      code: 'rabbitmq.version',
      subject: 'RabbitMQ',
      message: text,
      declared: `at least ${OLDEST.join('.')}`,
      found: version.join('.'),
    },
  ]
}

/** The nodes; `null` when nobody can say, which is then a finding. */
async function auditCluster(
  management: Management | null,
  findings: Finding[],
): Promise<readonly NodeInfo[] | null> {
  if (management === null) {
    findings.push(partial('give managementUrl: AMQP does not tell settings of queues and nodes'))
    return null
  }
  try {
    const nodes = await management.nodes()
    findings.push(...nodes.flatMap(auditNode))
    if (nodes.length < 3) findings.push(fewNodes(nodes.length))
    return nodes
  } catch (error) {
    if (!isHoldfastError(error)) throw error
    findings.push({ ...partial(error.message), severity: 'warning' })
    return null
  }
}

function auditNode({ name, running, mem_alarm, disk_free_alarm }: NodeInfo): readonly Finding[] {
  const findings: Finding[] = []
  const add = (code: string, message: string): void => {
    findings.push({ severity: 'warning', code, subject: name, message })
  }
  if (running === false) add('rabbitmq.node-down', 'the node does not run')
  if (mem_alarm === true) add('rabbitmq.memory-alarm', 'out of memory: publishing is blocked')
  if (disk_free_alarm === true) add('rabbitmq.disk-alarm', 'out of disk: publishing is blocked')
  return findings
}

function fewNodes(count: number): Finding {
  return {
    severity: 'warning',
    code: 'rabbitmq.cluster-size',
    subject: 'cluster',
    message:
      'a confirmed message survives a crash and a restart, but not the loss of a node with its disk: three nodes do',
    declared: 'at least 3',
    found: String(count),
  }
}

function partial(why: string): Finding {
  return {
    severity: 'info',
    code: 'rabbitmq.audit-partial',
    subject: 'managementUrl',
    message: `only what AMQP tells was audited: ${why}`,
  }
}

async function auditOne(
  queue: WantedQueue,
  nodes: readonly NodeInfo[] | null,
  { operations, management, options }: AuditOptions,
): Promise<readonly Finding[]> {
  if (management === null || nodes === null) return look(operations, queue)
  const info = await management.queue(queue.name)
  return info === null ? [missing(queue)] : auditQueue(queue, info, nodes, options.allowDropOnLimit)
}

async function auditExchange(
  exchange: WantedExchange,
  nodes: readonly NodeInfo[] | null,
  { operations, management }: AuditOptions,
): Promise<readonly Finding[]> {
  if (management === null || nodes === null) return look(operations, exchange)
  const info = await management.exchange(exchange.name)
  return info === null ? [missing(exchange)] : exchangeFindings(exchange, info)
}

function exchangeFindings({ name }: WantedExchange, info: ExchangeInfo): readonly Finding[] {
  const findings: Finding[] = []
  const add = (severity: Finding['severity'], code: string, message: string, found: string) => {
    findings.push({ severity, code: `rabbitmq.exchange-${code}`, subject: name, message, found })
  }
  if (!info.durable) add('error', 'durable', 'a restart takes the exchange with it', 'false')
  if (info.auto_delete) add('error', 'auto-delete', 'it goes with its last binding', 'true')
  const alternate = info.arguments?.['alternate-exchange']
  if (alternate !== undefined) {
    const text = 'what reaches no group goes there and counts as confirmed'
    add('warning', 'alternate', text, String(alternate))
  }
  return findings
}

async function look(
  operations: Operations,
  wanted: WantedQueue | WantedExchange,
): Promise<readonly Finding[]> {
  return (await exists(operations, wanted)) === 'missing' ? [missing(wanted)] : []
}
