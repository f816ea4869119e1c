import { rabbitmq } from '../../../adapters/rabbitmq/index.ts'
import { GROUP, inTraffic as inAny, type Ground, type Traffic } from '../traffic.ts'
import { depthOf } from './raw.ts'

export type { Traffic } from '../traffic.ts'

/** How much there is to do, and where. */
export interface TrafficOptions {
  /** Where the library connects to, through a proxy or not. */
  readonly urls: readonly string[]
  /** Where the last look goes to, past every proxy. */
  readonly directUrl: string
  /** Publishers at work at once, each with a key of its own. Default 40. */
  readonly keys?: number
  /** What each of them waits between two publishes, in milliseconds. Default 100. */
  readonly pauseMs?: number
}

const PARTITIONS = 4

/** Names of the queues of the group. */
export function queuesOf({ topicName }: Pick<Traffic, 'topicName'>): readonly string[] {
  return Array.from({ length: PARTITIONS }, (_, n) => `${topicName}.${GROUP}.${n}`)
}

/** Runs the traffic around `act`, and ends it whatever happens. */
export function inTraffic(
  { urls, directUrl, ...amount }: TrafficOptions,
  act: (traffic: Traffic) => Promise<void>,
): Promise<void> {
  const ground: Ground = {
    broker: () => rabbitmq({ url: urls }),
    settings: { partitions: PARTITIONS },
    residue: async (topicName, group) => {
      const residue: Record<string, number> = {}
      for (const queue of [...queuesOf({ topicName }), `${topicName}.${group}.dead`]) {
        residue[queue] = await depthOf(directUrl, queue)
      }
      return residue
    },
  }
  return inAny({ ground, ...amount }, act)
}
