import { randomBytes } from 'node:crypto'

import { startOrTell } from './boot.ts'
import {
  createNetwork,
  freePort,
  LoopbackContainer,
  prepareEngine,
  removeContainer,
} from './containers.ts'
import { rabbitmqImage, type RabbitmqVersion } from './rabbitmq-image.ts'
import { RabbitmqCluster } from './rabbitmq-cluster.ts'
import { RabbitmqNode } from './rabbitmq-node.ts'

/** How a node is to be. */
export interface NodeOptions {
  /** Default `current`. */
  readonly version?: RabbitmqVersion
  /** Further lines of `rabbitmq.conf`. */
  readonly conf?: readonly string[]
}

/** A node, and how it is removed. */
export interface OwnNode {
  readonly node: RabbitmqNode
  /** Ends and removes the container. Idempotent. */
  remove(): Promise<void>
}

const AMQP = 5672
const MANAGEMENT = 15_672
const PLUGINS = '[rabbitmq_management].\n'

/**
 * Writes the cookie for whoever runs the server, then hands over to it: through the official image's
 * entry point where there is one. Debian's own wrapper would not pass on the signal that ends a
 * container in order.
 */
const BOOT = [
  'umask 077',
  'printf %s "$HOLDFAST_COOKIE" > /var/lib/rabbitmq/.erlang.cookie',
  'chown rabbitmq /var/lib/rabbitmq/.erlang.cookie',
  'chmod 400 /var/lib/rabbitmq/.erlang.cookie',
  'umask 022',
  'if command -v docker-entrypoint.sh > /dev/null; then exec docker-entrypoint.sh rabbitmq-server; fi',
  'cd /var/lib/rabbitmq',
  'export HOME=/var/lib/rabbitmq',
  'exec setpriv --reuid rabbitmq --regid rabbitmq --init-groups /usr/lib/rabbitmq/bin/rabbitmq-server',
].join(' && ')

/** Starts one node and resolves when it can be used. */
export async function startNode(options: NodeOptions = {}): Promise<OwnNode> {
  await prepareEngine()
  const node = await boot('rabbit', randomCookie(), options, null)
  return { node, remove: () => removeContainer(node.address.containerId) }
}

/** Starts three nodes on a network of their own and resolves when all of them are in the cluster. */
export async function startCluster(options: NodeOptions = {}): Promise<RabbitmqCluster> {
  await prepareEngine()
  const network = await createNetwork()
  const cookie = randomCookie()
  const hosts = ['rabbit-1', 'rabbit-2', 'rabbit-3']
  const conf = [
    'cluster_formation.peer_discovery_backend = classic_config',
    ...hosts.map((host, n) => `cluster_formation.classic_config.nodes.${n + 1} = rabbit@${host}`),
    ...(options.conf ?? []),
  ]
  const started = await Promise.allSettled(
    hosts.map((host) => boot(host, cookie, { ...options, conf }, network)),
  )
  const nodes = started.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
  const cluster = new RabbitmqCluster(nodes, network)
  try {
    for (const one of started) if (one.status === 'rejected') throw one.reason
    await nodes[0]!.ctl('await_online_nodes', String(hosts.length))
  } catch (error) {
    await cluster.remove()
    throw error
  }
  return cluster
}

async function boot(
  host: string,
  cookie: string,
  { version = 'current', conf = [] }: NodeOptions,
  network: string | null,
): Promise<RabbitmqNode> {
  const image = await rabbitmqImage(version)
  const [amqpPort, managementPort] = [await freePort(), await freePort()]
  let node: RabbitmqNode | null = null
  const container = new LoopbackContainer(image)
    .publish(
      new Map([
        [AMQP, amqpPort],
        [MANAGEMENT, managementPort],
      ]),
    )
    .withHostname(host)
    .withEnvironment({
      HOLDFAST_COOKIE: cookie,
      // Several nodes and their clients share few cores: none of them may spin while it waits.
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '+sbwt none +sbwtdcpu none +sbwtdio none',
    })
    .withCopyContentToContainer([
      { content: PLUGINS, target: '/etc/rabbitmq/enabled_plugins', mode: 0o644 },
      { content: configuration(conf), target: '/etc/rabbitmq/rabbitmq.conf', mode: 0o644 },
    ])
    .withCommand(['sh', '-c', BOOT])
    .onCreated((containerId) => {
      node = new RabbitmqNode({ containerId, name: `rabbit@${host}`, amqpPort, managementPort })
    })
  if (network !== null) container.withNetworkMode(network).withNetworkAliases(host)
  return startOrTell('RabbitMQ', container, () => node)
}

function configuration(more: readonly string[]): string {
  const lines = ['loopback_users = none', 'log.console = true', 'log.console.level = warning']
  return `${[...lines, ...more].join('\n')}\n`
}

function randomCookie(): string {
  return randomBytes(12).toString('hex').toUpperCase()
}
