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

interface Started {
  readonly url: string
  readonly container: string
  remove(): Promise<void>
}

/** Brokers that the demo can start, under the names of their images. */
const starters = {
  rabbitmq: async (): Promise<Started> => {
    const { startNode } = await import('../../test/brokers/rabbitmq.ts')
    const own = await startNode()
    const { containerId: container } = own.node.address
    return { url: own.node.url(), container, remove: () => own.remove() }
  },
  kafka: async (): Promise<Started> => {
    const { startKafka } = await import('../../test/brokers/kafka.ts')
    const own = await startKafka()
    const { containerId: container } = own.node.address
    return { url: `kafka://${own.node.broker}`, container, remove: () => own.remove() }
  },
} as const

/** A broker that the demo starts itself when no `--url` is given. */
export type StartedBroker = keyof typeof starters

/** True for brokers that the demo starts itself when no `--url` is given. */
export function isStarted(broker: string): broker is StartedBroker {
  return Object.hasOwn(starters, broker)
}

/**
 * Starts a broker in a container, with an engine and an image that are installed, pulled or built
 * when they are missing. Throws a `UsageError` where that cannot be done; what is missing has been
 * said by then.
 */
export async function startBroker(broker: StartedBroker): Promise<OwnBroker> {
  await provided('a container engine', 'scripts/docker-engine.mjs')
  await provided('the image', 'test/brokers/images.mjs', broker)
  console.log(`starting ${broker} in a container`)
  const own = await starters[broker]()
  let isRemoved = false
  return {
    url: own.url,
    container: own.container,
    remove: async () => {
      await own.remove()
      isRemoved = true
    },
    abandon: () => {
      if (isRemoved) return
      spawn('docker', ['rm', '--force', own.container], { stdio: 'ignore', detached: true }).unref()
    },
  }
}

/** These scripts say themselves what they install and what is missing. */
async function provided(what: string, script: string, ...args: string[]): Promise<void> {
  const child = spawn(process.execPath, [script, ...args], {
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
