import { inject } from 'vitest'

import { KafkaCluster, type ClusterAddress } from './kafka-cluster.ts'
import { KafkaNode, type KafkaAddress } from './kafka-node.ts'

declare module 'vitest' {
  interface ProvidedContext {
    kafka: string
  }
}

const START_TIMEOUT_MS = 240_000

/** The broker that all test files share; use topics of your own on it, and leave it running. */
export async function sharedKafka(): Promise<KafkaNode> {
  return new KafkaNode((await ask('/node')) as KafkaAddress)
}

/** The three brokers that all test files share; use topics of your own on them, and leave them running. */
export async function sharedKafkaCluster(): Promise<KafkaCluster> {
  return new KafkaCluster((await ask('/cluster')) as ClusterAddress)
}

async function ask(path: string): Promise<unknown> {
  const answer = await fetch(inject('kafka') + path, {
    signal: AbortSignal.timeout(START_TIMEOUT_MS),
  })
  if (!answer.ok) throw new Error(await answer.text())
  return answer.json()
}
