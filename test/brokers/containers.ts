import { randomBytes } from 'node:crypto'
import { createServer, type AddressInfo } from 'node:net'

import {
  GenericContainer,
  getContainerRuntimeClient,
  type ContainerRuntimeClient,
} from 'testcontainers'

/** The image whose container removes what a killed run left behind. */
const REAPER = 'testcontainers/ryuk:0.14.0'
const OWNER = 'holdfast.test.owner'

/** The machine's container engine; rejects with what to do where there is none. */
export async function engine(): Promise<ContainerRuntimeClient> {
  try {
    return await getContainerRuntimeClient()
  } catch (error) {
    throw new Error("no container engine answers: run 'node scripts/docker-engine.mjs'", {
      cause: error,
    })
  }
}

/**
 * To be called before the first container starts. Where the reaper's image is not on this machine,
 * containers are removed by those who started them; those of runs that were killed are removed here.
 */
export async function prepareEngine(): Promise<void> {
  const { container } = await engine()
  const known = await container.dockerode.listImages()
  if (!known.some(({ RepoTags }) => RepoTags?.includes(REAPER))) {
    process.env['TESTCONTAINERS_RYUK_DISABLED'] = 'true'
  }
  await removeOrphans()
}

async function removeOrphans(): Promise<void> {
  const { dockerode } = (await engine()).container
  for (const { Id, Labels } of await dockerode.listContainers({ all: true })) {
    if (isOrphan(Labels)) await removeContainer(Id)
  }
  for (const { Id, Labels } of await dockerode.listNetworks()) {
    if (isOrphan(Labels)) await dockerode.getNetwork(Id).remove()
  }
}

function isOrphan(labels: Readonly<Record<string, string>> | undefined): boolean {
  const owner = labels?.[OWNER]
  return owner !== undefined && !isAlive(Number(owner))
}

/** A network for containers of one test, by its name. */
export async function createNetwork(): Promise<string> {
  const { dockerode } = (await engine()).container
  const name = `holdfast-${randomBytes(6).toString('hex')}`
  await dockerode.createNetwork({ Name: name, Labels: { [OWNER]: String(process.pid) } })
  return name
}

/** Removes a network that no container uses any more. */
export async function removeNetwork(name: string): Promise<void> {
  const { dockerode } = (await engine()).container
  await unlessGone(dockerode.getNetwork(name).remove())
}

/** Ends and removes one container; one that is gone already is fine. */
export async function removeContainer(id: string): Promise<void> {
  const { container } = await engine()
  await unlessGone(container.getById(id).remove({ force: true, v: true }))
}

/** Not there: 404; somebody removes it just now: 409. */
async function unlessGone(removal: Promise<unknown>): Promise<void> {
  try {
    await removal
  } catch (error) {
    const { statusCode } = error as { statusCode?: number }
    if (statusCode !== 404 && statusCode !== 409) throw error
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** A port of the loopback interface that nobody listens on. */
export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(0, '127.0.0.1', resolve)
  })
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/**
 * A container that is published on this machine only, at ports that stay the same when it is started
 * again, and that names the process it belongs to.
 */
export class LoopbackContainer extends GenericContainer {
  #onCreated: (id: string) => void = () => undefined

  /** `ports`: of the container, to those of this machine. */
  publish(ports: ReadonlyMap<number, number>): this {
    this.withExposedPorts(...[...ports].map(([container, host]) => ({ container, host })))
    for (const [container, host] of ports) {
      this.hostConfig.PortBindings = {
        ...(this.hostConfig.PortBindings as object),
        [`${container}/tcp`]: [{ HostIp: '127.0.0.1', HostPort: String(host) }],
      }
    }
    return this.withLabels({ [OWNER]: String(process.pid) })
  }

  /** Told the id before the container starts: from then on there is something to remove. */
  onCreated(listener: (id: string) => void): this {
    this.#onCreated = listener
    return this
  }

  protected override containerCreated(id: string): Promise<void> {
    this.#onCreated(id)
    return Promise.resolve()
  }
}
