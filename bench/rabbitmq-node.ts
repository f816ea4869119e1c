import { connect } from 'amqplib'

import { startNode } from '../test/brokers/rabbitmq.ts'

/** A RabbitMQ to measure on. */
export interface BenchNode {
  readonly url: string
  readonly version: string
  /** Ends what was started for the bench; leaves a node that was there before. */
  remove(): Promise<void>
}

/**
 * The node named by `HOLDFAST_RABBITMQ_URL`, else one in a container of its own. Rejects with what to
 * do where there is neither.
 */
export async function benchNode(): Promise<BenchNode> {
  const given = process.env['HOLDFAST_RABBITMQ_URL']
  if (given !== undefined && given !== '') {
    return { url: given, version: await versionOf(given), remove: async () => undefined }
  }
  const { node, remove } = await startNode()
  const url = node.url()
  return { url, version: await versionOf(url), remove }
}

async function versionOf(url: string): Promise<string> {
  const connection = await connect(url)
  try {
    return String(connection.connection.serverProperties.version)
  } finally {
    await connection.close()
  }
}
