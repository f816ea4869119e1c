import { sleep, type Clock } from '../../src/contract/clock.ts'
import { HoldfastError } from '../../src/contract/errors.ts'
import type { Emit } from '../../src/contract/events.ts'
import type { Finding, TopicTopology, Topology } from '../../src/contract/topology.ts'
import { anchor, lookAtAnchor } from './anchors.ts'
import type { DriverAdmin, NewTopic, PartitionInfo } from './driver.ts'
import { durabilityOf, replicationOf } from './durability.ts'
import { findTopic, missing, type FoundTopic } from './found.ts'
import { checkNames, type TopicNames } from './names-of.ts'
import type { Resolved } from './options.ts'
import type { TopicTable } from './topics.ts'
import { companionsOf, minInsyncOf, sourceConfig, type CompanionTopic } from './wanted.ts'
import { strictly, Warnings } from './warnings.ts'

/** What provisioning needs. */
export interface ProvisionerOptions {
  readonly admin: DriverAdmin
  readonly topics: TopicTable
  readonly options: Resolved
  readonly clock: Clock
  readonly emit: Emit
}

type Mode = 'create' | 'verify'

/** How long a topic that was just made may take until it has leaders. */
const VISIBLE_MS = 6_000
const LOOK_EVERY_MS = 50

/** Makes or verifies what topics need. Changes nothing that exists. */
export class Provisioner {
  readonly #options: ProvisionerOptions
  readonly #warnings: Warnings

  constructor(options: ProvisionerOptions) {
    this.#options = options
    this.#warnings = new Warnings(options.emit)
  }

  /**
   * What is wrong or weak, as findings; warnings are told as events too. With `strict` weak durability is
   * an error. Rejects when the cluster cannot be asked.
   */
  async provision({ topics }: Topology, mode: Mode): Promise<readonly Finding[]> {
    const findings: Finding[] = []
    for (const topic of topics) findings.push(...(await this.#topic(topic, mode)))
    this.#warnings.tell(findings)
    return findings
  }

  async #topic(topology: TopicTopology, mode: Mode): Promise<readonly Finding[]> {
    const { topics, options } = this.#options
    checkNames(options.prefix, topology)
    const names = topics.names(topology.name)
    const source = await this.#source(names, topology, mode)
    if (source === null) return [missing(names.topic, names.isMapped)]
    topics.declare(topology)
    const groups = await Promise.all(
      topology.groups.map((group) => this.#group(group, names, topology, source, mode)),
    )
    await topics.look(names.topic)
    const weak = strictly(options.strict, durabilityOf(source, null))
    return [...this.#differences(topology, source), ...weak, ...groups.flat()]
  }

  async #source(
    names: TopicNames,
    { partitions }: TopicTopology,
    mode: Mode,
  ): Promise<FoundTopic | null> {
    const { admin } = this.#options
    const found = await findTopic(admin, names.topic, 'source')
    if (found !== null || mode === 'verify' || names.isMapped) return found
    await this.#make(names.topic, await this.#newSource(partitions))
    return findTopic(admin, names.topic, 'source')
  }

  async #newSource(wanted: number | null): Promise<NewTopic> {
    const { admin, options } = this.#options
    const { brokers, config } = await admin.describeBroker()
    const replication = options.replication ?? Math.min(3, brokers.length)
    const minInsync = options.minInsyncReplicas ?? minInsyncOf(replication)
    const partitions = wanted ?? Number(config['num.partitions'] ?? 1)
    return { partitions, replication, config: sourceConfig(minInsync) }
  }

  async #group(
    group: string,
    names: TopicNames,
    topology: TopicTopology,
    source: FoundTopic,
    mode: Mode,
  ): Promise<readonly Finding[]> {
    const { admin, options } = this.#options
    const companions = companionsOf(names, group, topology, source.config ?? {})
    const found = await Promise.all(companions.map((one) => findTopic(admin, one.name, one.role)))
    const isKnown = found.at(-1) !== null
    const about = { topic: source.name, groupId: names.groupId(group), isKnown }
    const findings: Finding[] = []
    if (mode === 'create') findings.push(...(await anchor(admin, about)))
    const lost = await lookAtAnchor(admin, about)
    // What was lost before is no reason to stop.
    findings.push(...lost.map((one): Finding => ({ ...one, severity: 'warning' })))
    const absent = companions.filter((_, index) => found[index] === null)
    if (mode === 'create') await this.#makeAll(absent, source)
    else findings.push(...absent.map(({ name }) => missing(name)))
    const weak = found.flatMap((one) => (one === null ? [] : durabilityOf(one, source)))
    return [...findings, ...strictly(options.strict, weak)]
  }

  /** The last one, which says that the group is declared, when all others are there. */
  async #makeAll(companions: readonly CompanionTopic[], source: FoundTopic): Promise<void> {
    const [partitions, replication] = [source.partitions.length, replicationOf(source.partitions)]
    const make = ({ name, config }: CompanionTopic): Promise<void> =>
      this.#make(name, { partitions, replication, config })
    await Promise.all(companions.filter(({ role }) => role === 'retry').map(make))
    await Promise.all(companions.filter(({ role }) => role === 'dead').map(make))
  }

  /** Resolves when every partition has a leader. */
  async #make(name: string, topic: NewTopic): Promise<void> {
    const { admin, clock, topics } = this.#options
    await admin.createTopic(name, topic)
    topics.stale(name)
    const deadline = clock.now() + VISIBLE_MS
    while (!isWhole(await admin.partitions(name))) {
      if (clock.now() >= deadline) {
        throw new HoldfastError('unavailable', `topic "${name}" was made, and has no leaders yet`)
      }
      await sleep(clock, LOOK_EVERY_MS)
    }
  }

  #differences({ name, partitions }: TopicTopology, source: FoundTopic): readonly Finding[] {
    const findings: Finding[] = []
    const count = source.partitions.length
    const frozen = this.#options.options.frozenPartitionCount.get(name)
    if (partitions !== null && partitions !== count) {
      findings.push({
        severity: 'warning',
        code: 'kafka.partitions',
        subject: source.name,
        message: `the topic has ${count} partitions, declared are ${partitions}: keys are spread over those it has`,
        declared: String(partitions),
        found: String(count),
      })
    }
    if (frozen !== undefined && frozen > count) {
      findings.push({
        severity: 'error',
        code: 'kafka.frozen-partitions',
        subject: source.name,
        message: `frozenPartitionCount.${name} is ${frozen}, and the topic has only ${count} partitions`,
        declared: String(frozen),
        found: String(count),
      })
    }
    return findings
  }
}

function isWhole(partitions: readonly PartitionInfo[] | null): boolean {
  return partitions?.every(({ leader }) => leader !== null) ?? false
}
