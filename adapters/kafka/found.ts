import { isHoldfastError } from '../../src/contract/errors.ts'
import type { Finding } from '../../src/contract/topology.ts'
import type { DriverAdmin, PartitionInfo } from './driver.ts'
import type { Role, TopicConfig } from './wanted.ts'

/** A topic as it was found. */
export interface FoundTopic {
  readonly name: string
  readonly role: Role | 'offsets'
  readonly partitions: readonly PartitionInfo[]
  /** `null`: this user may not look. */
  readonly config: TopicConfig | null
}

/** Partitions and settings of a topic; `null`: it is not there. */
export async function findTopic(
  admin: Pick<DriverAdmin, 'partitions' | 'describeTopic'>,
  name: string,
  role: FoundTopic['role'],
): Promise<FoundTopic | null> {
  const partitions = await admin.partitions(name)
  if (partitions === null) return null
  return { name, role, partitions, config: await configOf(admin, name) }
}

async function configOf(
  admin: Pick<DriverAdmin, 'describeTopic'>,
  name: string,
): Promise<TopicConfig | null> {
  try {
    return await admin.describeTopic(name)
  } catch (error) {
    if (isHoldfastError(error) && error.code === 'topology') return null
    throw error
  }
}

/** What is not there. */
export function missing(name: string, isMapped = false): Finding {
  const advice = isMapped ? 'it is mapped, so it has to exist' : "use topology: 'create' once"
  return {
    severity: 'error',
    code: 'kafka.topic-missing',
    subject: name,
    message: `the topic is not there: ${advice}`,
  }
}
