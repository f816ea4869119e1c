import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

import { UsageError } from './usage.ts'

const root = fileURLToPath(new URL('../../../', import.meta.url))

/** A broker in a container that lives as long as the demo. */
export interface OwnBroker {
  readonly url: string
  readonly container: string
  remove(): Promise<void>
  /** For when the demo is interrupted. */
  abandon(): void
}

/**
 * Starts RabbitMQ in a container, with an engine and an image that are installed, pulled or built
 * when they are missing. Throws a `UsageError` where that cannot be done; what is missing has been
 * said by then.
 */
export async function startRabbitmq(): Promise<OwnBroker> {
  await provided('a container engine', 'scripts/docker-engine.mjs')
  await provided('the image', 'test/brokers/images.mjs')
  const { startNode } = await import('../../test/brokers/rabbitmq.ts')
  console.log('starting RabbitMQ in a container')
  const own = await startNode()
  const container = own.node.address.containerId
  let isRemoved = false
  return {
    url: own.node.url(),
    container,
    remove: async () => {
      await own.remove()
      isRemoved = true
    },
    abandon: () => {
      if (isRemoved) return
      spawn('docker', ['rm', '--force', container], { stdio: 'ignore', detached: true }).unref()
    },
  }
}

/** These scripts say themselves what they install and what is missing. */
async function provided(what: string, script: string): Promise<void> {
  const child = spawn(process.execPath, [script], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  const code = await new Promise<number | null>((resolve) => {
    child.once('error', () => resolve(null))
    child.once('exit', resolve)
  })
  if (code === 0) return
  throw new UsageError(`without --url the demo starts a broker, and ${what} cannot be had`)
}
