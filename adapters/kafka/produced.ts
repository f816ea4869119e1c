import type { Deadline } from '../../src/contract/broker.ts'
import type { Random } from '../../src/contract/clock.ts'
import type { Capabilities } from '../../src/contract/capabilities.ts'
import type { Envelope } from '../../src/contract/message.ts'
import { BATCH_OVERHEAD } from './batch-writer.ts'
import { Call, type CallOwner } from './call.ts'
import type { Part } from './driver.ts'
import { noSuchTopic } from './errors.ts'
import type { Resolved } from './options.ts'
import { checkBody, recordTooLarge } from './outcomes.ts'
import { Outgoing } from './outgoing.ts'
import { newRoute } from './routes.ts'
import type { TopicRoute } from './topic-route.ts'
import type { TopicLayout, TopicTable } from './topics.ts'

/** What finding the way of envelopes needs. */
export interface ProducedOptions {
  readonly topics: Pick<TopicTable, 'topicOf' | 'look'>
  readonly limits: Capabilities['limits']
  readonly options: Pick<Resolved, 'partitioner' | 'frozenPartitionCount'>
  readonly random: Random
}

/** Bytes of one batch at most. */
const MOST_BATCH_BYTES = 1_048_576
/** Nobody is told of these calls: they only hold what becomes records. */
const nobody: CallOwner = {
  ended: () => undefined,
  late: () => undefined,
  expired: () => undefined,
}

/**
 * What a transaction writes: each envelope as a record of its partition, in rounds that name each
 * partition once. Rejects with the reason why one of them cannot be published at all.
 */
export async function roundsOf(
  produced: readonly Envelope[],
  deadline: Deadline,
  options: ProducedOptions,
): Promise<readonly (readonly Part[])[]> {
  const call = new Call(produced, deadline, () => undefined, nobody)
  const routes = new Map<string, TopicRoute>()
  const rounds: Map<string, MutablePart>[] = []
  for (let index = 0; index < produced.length; index++) {
    const item = new Outgoing(call, index)
    const { envelope } = item
    const topic = options.topics.topicOf(envelope.to)
    let route = routes.get(topic)
    if (route === undefined) routes.set(topic, (route = await routeOf(topic, envelope, options)))
    const { maxMessageBytes } = route.layout as TopicLayout
    checkSize(item, maxMessageBytes, options)
    const { partition } = route.queueFor(item)
    place(item, { topic, partition }, Math.min(MOST_BATCH_BYTES, maxMessageBytes), rounds)
  }
  return rounds.map((round) => [...round.values()])
}

interface MutablePart extends Part {
  readonly records: Outgoing[]
  bytes: number
}

async function routeOf(
  topic: string,
  { to }: Envelope,
  { topics, options, random }: ProducedOptions,
): Promise<TopicRoute> {
  const route = newRoute(topic, to, options, random)
  const layout = await topics.look(topic)
  if (layout === null) throw noSuchTopic(topic)
  route.learn(layout)
  return route
}

function checkSize(
  item: Outgoing,
  maxMessageBytes: number,
  { limits, topics }: ProducedOptions,
): void {
  const { envelope } = item
  checkBody(envelope, limits)
  item.prepare()
  if (item.fits(maxMessageBytes)) return
  throw recordTooLarge(maxMessageBytes, topics.topicOf(envelope.to), envelope)
}

/** Into the last round that has its partition, when it fits there; those of one partition keep their order. */
function place(
  item: Outgoing,
  { topic, partition }: Pick<Part, 'topic' | 'partition'>,
  mostBytes: number,
  rounds: Map<string, MutablePart>[],
): void {
  const name = `${topic}/${partition}`
  let last = rounds.length
  while (last > 0 && rounds[last - 1]?.has(name) !== true) last--
  const part = rounds[last - 1]?.get(name)
  if (part !== undefined && part.bytes + item.bytes <= mostBytes) {
    part.records.push(item)
    part.bytes += item.bytes
    return
  }
  if (rounds[last] === undefined) rounds.push(new Map())
  const bytes = BATCH_OVERHEAD + item.bytes
  rounds[last]?.set(name, { topic, partition, records: [item], bytes })
}
