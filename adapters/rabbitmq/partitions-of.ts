import type { Subscription } from '../../src/contract/broker.ts'
import { HoldfastError } from '../../src/contract/errors.ts'
import { exists } from './declare.ts'
import type { TopicNames } from './names-of.ts'
import type { Operations } from './operations.ts'
import type { Plan, TopicTable } from './topics.ts'

/** No topic has more partitions. */
const MOST_PARTITIONS = 16_384

/** What looking needs. */
export interface Looking {
  readonly operations: Pick<Operations, 'raw'>
  readonly topics: Pick<TopicTable, 'keep'>
}

/**
 * Learns how many partitions the topics have of which nobody told this process, from the queues that
 * their group has: two requests for one queue, and some more for each doubling of their number. Rejects
 * with code `topology` where the queues contradict each other, with code `unavailable` while the broker
 * cannot say. Groups that have no queue are left to whoever consumes from them.
 */
export async function findPartitions(
  { topics: names, group, ordering }: Subscription,
  { topics, operations }: Looking,
): Promise<void> {
  for (const name of names) {
    const plan = topics.keep(name)
    if (plan.isKnown) continue
    // Nobody can see over AMQP whether they have a single active consumer: those of ordered topics do.
    plan.tell({ ordering, partitions: null })
    const found = await partitionsOf(plan, group, operations)
    if (found !== undefined) plan.settle(found)
  }
}

/** `null`: one queue; `undefined`: none at all. */
async function partitionsOf(
  { topic, names }: Plan,
  group: string,
  operations: Pick<Operations, 'raw'>,
): Promise<number | null | undefined> {
  const isThere = (name: string): Promise<boolean> => isQueue(name, operations)
  const hasOne = await isThere(names.queue(group))
  if (!(await isThere(names.partition(group, 0)))) return hasOne ? null : undefined
  if (hasOne) throw contradiction(topic, names, group)
  return countOf((partition) => isThere(names.partition(group, partition)))
}

/** The first number that is not there, when all before it are; 0 is known to be. */
async function countOf(isThere: (partition: number) => Promise<boolean>): Promise<number> {
  let there = 0
  let missing = 1
  while (missing < MOST_PARTITIONS && (await isThere(missing))) {
    there = missing
    missing *= 2
  }
  while (missing - there > 1) {
    const between = Math.floor((there + missing) / 2)
    if (await isThere(between)) there = between
    else missing = between
  }
  return missing
}

async function isQueue(name: string, operations: Pick<Operations, 'raw'>): Promise<boolean> {
  const found = await exists(operations, {
    kind: 'queue',
    name,
    role: 'group',
    family: name,
    mapped: true,
    fixed: {},
    settings: {},
  })
  if (found !== 'passing') return found === 'there'
  throw new HoldfastError('unavailable', `RabbitMQ cannot say now whether queue "${name}" is there`)
}

function contradiction(topic: string, names: TopicNames, group: string): HoldfastError {
  const queues = `queue "${names.queue(group)}" and queue "${names.partition(group, 0)}"`
  const text = `topic "${topic}": there are ${queues}, so nobody can tell whether it has partitions: say how many in topics.${topic}.partitions, or delete what is left of another number`
  return new HoldfastError('topology', text, { topic })
}
