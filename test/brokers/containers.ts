import { randomBytes, randomInt } from 'node:crypto'
import { createServer } from 'node:net'

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

/** A network whose containers have addresses of their own, also after they were down. Plain data. */
export interface Subnet {
  readonly name: string
  /** The first three bytes of all addresses, with dots. */
  readonly prefix: string
}

const TRIES = 20
/** Below it are the addresses of the network itself. */
const FIRST = 10

/**
 * A network for servers that look each other up once: containers that start at the same time would
 * else swap their addresses.
 */
export async function createSubnet(): Promise<Subnet> {
  const { dockerode } = (await engine()).container
  for (let tries = 1; ; tries++) {
    const name = `holdfast-${randomBytes(6).toString('hex')}`
    const prefix = `10.${200 + randomInt(55)}.${randomInt(256)}`
    try {
      await dockerode.createNetwork({
        Name: name,
        Labels: { [OWNER]: String(process.pid) },
        IPAM: { Config: [{ Subnet: `${prefix}.0/24` }] },
      })
      return { name, prefix }
    } catch (error) {
      // Somebody else has these addresses.
      if (tries === TRIES) throw error
    }
  }
}

/** Puts a container into a subnet, under a name and always the same address. */
export async function joinSubnet(
  { name, prefix }: Subnet,
  containerId: string,
  { host, id }: { readonly host: string; readonly id: number },
): Promise<void> {
  const { dockerode } = (await engine()).container
  const EndpointConfig = {
    Aliases: [host],
    IPAMConfig: { IPv4Address: `${prefix}.${FIRST + id}` },
  }
  await dockerode.getNetwork(name).connect({ Container: containerId, EndpointConfig })
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

/** Ports that no system hands out by itself: those stay free while a container is stopped. */
const FIRST_PORT = 20_000
const LAST_PORT = 32_000
const MOST_TRIES = 100

/**
 * A port of the loopback interface that nobody listens on. Not one that `listen(0)` would give: the
 * system gives those to outgoing connections too, and one that is tried again and again while its
 * server is down ends up connected to itself.
 */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < MOST_TRIES; tries++) {
    const port = randomInt(FIRST_PORT, LAST_PORT)
    if (await isFree(port)) return port
  }
  throw new Error(`no free port among ${MOST_TRIES} between ${FIRST_PORT} and ${LAST_PORT}`)
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer()
  const listens = await new Promise<boolean>((resolve) => {
    server.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true))
  })
  if (listens) await new Promise((resolve) => server.close(resolve))
  return listens
}

/**
 * A container that is published on this machine only, at ports that stay the same when it is started
 * again, and that names the process it belongs to.
 */
export class LoopbackContainer extends GenericContainer {
  #onCreated: (id: string) => unknown = () => undefined

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

  /** Told the id before the container starts, which waits for it: from then on there is something to remove. */
  onCreated(listener: (id: string) => unknown): this {
    this.#onCreated = listener
    return this
  }

  protected override async containerCreated(id: string): Promise<void> {
    await this.#onCreated(id)
  }
}
