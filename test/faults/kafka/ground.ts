import { kafka } from '../../../adapters/kafka/index.ts'
import type { Rig, Variant } from '../../adapters/kafka/harness.ts'
import { depthOf, readEach } from '../../brokers/kafka-read.ts'
import { offsetsOf, withAdmin } from '../../brokers/kafka-topics.ts'
import type { Ground } from '../traffic.ts'

/** Shorter than the defaults, so that a fault is noticed within a test. */
const TIMES: Variant = { sessionTimeoutMs: 6_000, requestTimeoutMs: 4_000, connectTimeoutMs: 3_000 }
const PARTITIONS = 6

/** The library on a rig of brokers, and a plain look past its proxies. */
export function groundOf(rig: Rig, variant: Variant = {}): Ground {
  return {
    broker: () => kafka({ ...TIMES, ...variant, brokers: rig.brokers }),
    settings: { partitions: PARTITIONS, retryLevelsMs: [1_000] },
    residue: (topic, group, confirmed) => residueOf(rig.direct, topic, group, confirmed),
  }
}

/**
 * What is confirmed and not in the log, what the group has not finished, and what is dead: read by
 * plain clients that know nothing of the library.
 */
export async function residueOf(
  brokers: readonly string[],
  topic: string,
  group: string,
  confirmed: ReadonlySet<string>,
): Promise<Readonly<Record<string, number>>> {
  const missing = new Set(confirmed)
  await readEach(brokers, topic, ({ headers }) => missing.delete(String(headers['ce_id'])))
  const groupId = `${topic}.${group}`
  const residue: Record<string, number> = { 'confirmed but not in the log': missing.size }
  Object.assign(residue, await unfinished(brokers, topic, group))
  residue['dead'] = Number(await depthOf(brokers, `${groupId}.dead`))
  return residue
}

/** What the group has not finished, by topic. */
export async function unfinished(
  brokers: readonly string[],
  topic: string,
  group: string,
): Promise<Readonly<Record<string, number>>> {
  const groupId = `${topic}.${group}`
  const left: Record<string, number> = {}
  for (const name of [topic, `${groupId}.retry.1000`]) {
    left[`unfinished in ${name}`] = await lagOf(brokers, name, groupId)
  }
  return left
}

/** Offsets that the group has not committed. */
async function lagOf(brokers: readonly string[], topic: string, groupId: string): Promise<number> {
  const ends = await offsetsOf(brokers, topic)
  const [committed] = await withAdmin(brokers, (admin) =>
    admin.fetchOffsets({ groupId, topics: [topic] }),
  )
  const done = new Map(committed!.partitions.map(({ partition, offset }) => [partition, offset]))
  return ends.reduce((sum, { partition, low, high }) => {
    const at = BigInt(done.get(partition) ?? -1)
    return sum + Number(high - (at > low ? at : low))
  }, 0)
}
