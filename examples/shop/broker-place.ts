import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { promisify } from 'node:util'

import { isEmbedded, type DemoOptions } from './options.ts'
import { isStarted, startBroker } from './own-broker.ts'
import { readerOf } from './server-reader.ts'
import { UsageError } from './usage.ts'

const run = promisify(execFile)

/** Where the broker of a run is. */
export interface BrokerPlace {
  /** Null when it is embedded. */
  readonly url: string | null
  /** The container it runs in, when that is known. */
  readonly container: string | null
  /** Stands before the names of the run, so that runs on one broker do not meet. */
  readonly prefix: string | null
  /** Removes what the run made there. */
  release(): Promise<void>
  /** For when the demo is interrupted: at once. */
  abandon(): void
}

/** Finds the broker of a run, or starts one; throws a `UsageError` when there is none to be had. */
export async function findBroker(options: DemoOptions): Promise<BrokerPlace> {
  const { broker, url, container } = options
  if (isEmbedded(broker)) {
    return {
      url,
      container,
      prefix: null,
      release: async () => undefined,
      abandon: () => undefined,
    }
  }
  const prefix = `shop-${randomBytes(4).toString('hex')}.`
  if (url !== null) {
    if (container !== null) await checkContainer(container)
    const release = async (): Promise<void> => {
      if (!options.keep) await readerOf(broker)?.removeRun(url, prefix)
    }
    return { url, container, prefix, release, abandon: () => undefined }
  }
  if (!isStarted(broker)) throw new UsageError(`--broker ${broker} needs --url`)
  const own = await startBroker(broker)
  return { ...own, prefix, release: () => own.remove() }
}

/** A port that the engine chooses is another one after a restart. */
async function checkContainer(container: string): Promise<void> {
  const bindings = await portBindings(container)
  const ports = Object.values(bindings).flatMap((hosts) => hosts ?? [])
  if (ports.every(({ HostPort }) => HostPort !== '' && HostPort !== '0')) return
  throw new UsageError(
    `--container ${container}: its port changes when it is restarted; publish a fixed one, for example -p 9092:9092`,
  )
}

type Bindings = Readonly<Record<string, readonly { readonly HostPort: string }[] | null>>

async function portBindings(container: string): Promise<Bindings> {
  const args = ['inspect', '--format', '{{json .HostConfig.PortBindings}}', container]
  try {
    return (JSON.parse((await run('docker', args, { timeout: 15_000 })).stdout) ?? {}) as Bindings
  } catch (error) {
    const text = (error as { stderr?: string }).stderr?.trim() || (error as Error).message
    throw new UsageError(`--container ${container}: docker does not know it (${text})`)
  }
}
