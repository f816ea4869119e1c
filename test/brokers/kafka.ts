import { randomBytes } from 'node:crypto'

import { startOrTell } from './boot.ts'
import {
  createSubnet,
  freePort,
  joinSubnet,
  LoopbackContainer,
  prepareEngine,
  removeContainer,
  type Subnet,
} from './containers.ts'
import { imageOf } from './image.ts'
import { KafkaCluster } from './kafka-cluster.ts'
import {
  inside,
  logging,
  serverProperties,
  type KafkaPorts,
  type Member,
  type Proxied,
} from './kafka-config.ts'
import { KafkaNode } from './kafka-node.ts'
import type { KafkaSecurity } from './kafka-security.ts'

/** How a broker is to be. */
export interface KafkaOptions {
  /** Further lines of `server.properties`, which win over ours. */
  readonly conf?: readonly string[]
  /** How many listeners are for proxies of a test. Default 2. */
  readonly proxied?: number
  /** Adds the listeners with TLS; default without. */
  readonly security?: KafkaSecurity
  /** Java heap in megabytes. Default 512. */
  readonly heapMb?: number
  /** Takes its time to become as fast as it can: for measuring. Default: it starts in half of the time. */
  readonly isForSpeed?: boolean
}

/** A broker, and how it is removed. */
export interface OwnKafka {
  readonly node: KafkaNode
  /** Ends and removes the container. Idempotent. */
  remove(): Promise<void>
}

/** Java compiles in a hurry: brokers of tests are started more often than they are busy. */
const QUICK = '-XX:TieredStopAtLevel=1'
const CONFIG = '/tmp/holdfast/server.properties'
const LOGGING = '/tmp/holdfast/log4j2.properties'
const DATA = '/tmp/holdfast-data'

/** Formats the data folder once; the process that the container ends with is the broker itself. */
const BOOT = [
  `if [ ! -f ${DATA}/meta.properties ]; then java ${QUICK} -cp "/opt/kafka/libs/*" kafka.tools.StorageTool format --cluster-id "$HOLDFAST_CLUSTER" --config ${CONFIG} $HOLDFAST_FORMAT > /dev/null; fi`,
  `exec java -Xmx"$HOLDFAST_HEAP"m -XX:+UseSerialGC $HOLDFAST_JAVA -Dlog4j2.configurationFile=${LOGGING} -cp "/opt/kafka/libs/*" kafka.Kafka ${CONFIG}`,
].join(' && ')

/** Starts one broker and resolves when it can be used. */
export async function startKafka(options: KafkaOptions = {}): Promise<OwnKafka> {
  await prepareEngine()
  const alone = { id: 1, host: 'localhost' }
  const node = await boot({ member: alone, members: [alone], network: null, options })
  return { node, remove: () => removeContainer(node.containerId) }
}

/** Starts three brokers on a network of their own and resolves when they all know each other. */
export async function startKafkaCluster(options: KafkaOptions = {}): Promise<KafkaCluster> {
  await prepareEngine()
  const network = await createSubnet()
  const members = [1, 2, 3].map((id) => ({ id, host: `kafka-${id}` }))
  const clusterId = randomClusterId()
  const started = await Promise.allSettled(
    members.map((member) => boot({ member, members, network, options, clusterId })),
  )
  const nodes = started.flatMap((one) => (one.status === 'fulfilled' ? [one.value.address] : []))
  const cluster = new KafkaCluster({ nodes, network })
  try {
    for (const one of started) if (one.status === 'rejected') throw one.reason
    await cluster.untilAllUp()
  } catch (error) {
    await cluster.remove()
    throw error
  }
  return cluster
}

interface Boot {
  readonly member: Member
  readonly members: readonly Member[]
  readonly network: Subnet | null
  readonly options: KafkaOptions
  readonly clusterId?: string
}

async function boot({
  member,
  members,
  network,
  options,
  clusterId = randomClusterId(),
}: Boot): Promise<KafkaNode> {
  const { conf = [], heapMb = 512, proxied = 2, security = null, isForSpeed = false } = options
  const ports = await freePorts(proxied, security !== null)
  const lines = [...(security?.lines ?? []), ...conf]
  const properties = serverProperties({ member, members, ports, lines }, DATA)
  let node: KafkaNode | null = null
  const container = new LoopbackContainer(await imageOf('HOLDFAST_KAFKA_IMAGE'))
    .publish(published(ports))
    .withEnvironment({
      HOLDFAST_CLUSTER: clusterId,
      HOLDFAST_HEAP: String(heapMb),
      HOLDFAST_FORMAT: security?.format ?? '',
      HOLDFAST_JAVA: [isForSpeed ? '' : QUICK, security?.java ?? ''].join(' '),
    })
    .withCopyContentToContainer([
      { content: properties, target: CONFIG, mode: 0o644 },
      { content: logging, target: LOGGING, mode: 0o644 },
      ...(security?.files ?? []),
    ])
    .withCommand(['sh', '-c', BOOT])
    .onCreated(async (containerId) => {
      node = new KafkaNode({ containerId, ...member, ports })
      if (network !== null) await joinSubnet(network, containerId, member)
    })
  return startOrTell('Kafka', container, () => node)
}

async function freePorts(proxied: number, isSecure: boolean): Promise<KafkaPorts> {
  const behind: Proxied[] = []
  for (let n = 0; n < proxied; n++) {
    behind.push({ port: await freePort(), advertised: await freePort() })
  }
  const [secure, mutual] = isSecure ? [await freePort(), await freePort()] : [null, null]
  return { clients: await freePort(), proxied: behind, secure, mutual }
}

/** Port in the container → port of this machine. */
function published(ports: KafkaPorts): ReadonlyMap<number, number> {
  const all = new Map([[inside.clients, ports.clients]])
  for (const [n, { port }] of ports.proxied.entries()) all.set(inside.proxied(n), port)
  if (ports.secure !== null) all.set(inside.secure, ports.secure)
  if (ports.mutual !== null) all.set(inside.mutual, ports.mutual)
  return all
}

/** 16 bytes, as Kafka writes them; what begins with a dash would be taken for an option. */
function randomClusterId(): string {
  return Buffer.concat([Buffer.from([0]), randomBytes(15)]).toString('base64url')
}
