import { connect } from 'amqplib'

import { rabbitmqImage } from '../test/brokers/rabbitmq-image.ts'
import { startNode } from '../test/brokers/rabbitmq.ts'

/** A RabbitMQ to measure on. */
export interface BenchNode {
  readonly url: string
  readonly version: string
  /** Ends what was started for the bench; leaves a node that was there before. */
  remove(): Promise<void>
}

/** Rejects with what to do where there is no node to be had. */
export async function checkNode(): Promise<void> {
  const given = givenUrl()
  await (given === null ? rabbitmqImage('current') : versionOf(given))
}

/**
 * The node named by `HOLDFAST_RABBITMQ_URL`, else one in a container of its own.
 */
export async function benchNode(): Promise<BenchNode> {
  const given = givenUrl()
  if (given !== null) {
    return { url: given, version: await versionOf(given), remove: async () => undefined }
  }
  const own = await startNode()
  const url = own.node.url()
  return { url, version: await versionOf(url), remove: () => own.remove() }
}

function givenUrl(): string | null {
  const given = process.env['HOLDFAST_RABBITMQ_URL']
  return given === undefined || given === '' ? null : given
}

async function versionOf(url: string): Promise<string> {
  const connection = await connect(url)
  try {
    return connection.connection.serverProperties.version
  } finally {
    await connection.close()
  }
}
