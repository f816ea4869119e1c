/** A listener behind a proxy: clients that come in there are told the proxy's port. */
export interface Proxied {
  /** Of this machine, where the broker itself listens. */
  readonly port: number
  /** Of this machine, where a proxy is to listen; until it does, nobody gets through. */
  readonly advertised: number
}

/** Ports of this machine, per listener. */
export interface KafkaPorts {
  /** Nothing in between, no encryption. */
  readonly clients: number
  readonly proxied: readonly Proxied[]
  /** SASL over TLS, and TLS with a client certificate; null without security. */
  readonly secure: number | null
  readonly mutual: number | null
}

/** One broker that is also a controller, among others or alone. */
export interface Member {
  /** From 1. */
  readonly id: number
  /** By which the others reach it. */
  readonly host: string
}

/** What `server.properties` is made from. */
export interface ConfigParts {
  readonly member: Member
  /** All of them, itself included. */
  readonly members: readonly Member[]
  readonly ports: KafkaPorts
  /** Further lines, which win. */
  readonly lines: readonly string[]
}

const CONTROLLER = 9093

/** The port in the container at which brokers talk to each other. */
export const INTERNAL = 9095

/** Ports in the container. */
export const inside: {
  readonly clients: number
  readonly secure: number
  readonly mutual: number
  readonly proxied: (index: number) => number
} = { clients: 9092, secure: 9096, mutual: 9097, proxied: (index) => 9100 + index }

interface Listener {
  readonly name: string
  readonly protocol: string
  readonly port: number
  /** Null: not for clients. */
  readonly advertised: string | null
}

function listenersOf({ host }: Member, ports: KafkaPorts): readonly Listener[] {
  const here = (port: number): string => `127.0.0.1:${port}`
  const plain = { protocol: 'PLAINTEXT' }
  const all: Listener[] = [
    { name: 'CONTROLLER', ...plain, port: CONTROLLER, advertised: null },
    { name: 'INTERNAL', ...plain, port: INTERNAL, advertised: `${host}:${INTERNAL}` },
    { name: 'CLIENTS', ...plain, port: inside.clients, advertised: here(ports.clients) },
  ]
  for (const [n, { advertised }] of ports.proxied.entries()) {
    const port = inside.proxied(n)
    all.push({ name: `PROXIED${n}`, ...plain, port, advertised: here(advertised) })
  }
  if (ports.secure !== null && ports.mutual !== null) {
    const [secure, mutual] = [here(ports.secure), here(ports.mutual)]
    all.push(
      { name: 'SECURE', protocol: 'SASL_SSL', port: inside.secure, advertised: secure },
      { name: 'MUTUAL', protocol: 'SSL', port: inside.mutual, advertised: mutual },
    )
  }
  return all
}

/** Small, since several of them share a test machine, and quick to notice who is gone. */
const MODEST = [
  'num.network.threads=2',
  'num.io.threads=4',
  'log.cleaner.dedupe.buffer.size=4194304',
  'log.index.size.max.bytes=1048576',
  'offsets.topic.num.partitions=4',
  'transaction.state.log.num.partitions=4',
  'share.coordinator.state.topic.num.partitions=1',
  'group.initial.rebalance.delay.ms=0',
  'group.min.session.timeout.ms=1000',
  'broker.heartbeat.interval.ms=500',
  'broker.session.timeout.ms=3000',
  'auto.create.topics.enable=false',
]

/** Everything on three brokers survives one; what one broker has to give is one replica. */
function replication(count: number): readonly string[] {
  const replicas = Math.min(3, count)
  const inSync = replicas === 3 ? 2 : 1
  return [
    `default.replication.factor=${replicas}`,
    `min.insync.replicas=${inSync}`,
    'unclean.leader.election.enable=false',
    `offsets.topic.replication.factor=${replicas}`,
    `transaction.state.log.replication.factor=${replicas}`,
    `transaction.state.log.min.isr=${inSync}`,
    `share.coordinator.state.topic.replication.factor=${replicas}`,
    `share.coordinator.state.topic.min.isr=${inSync}`,
  ]
}

/** `server.properties`, with its data in `dataFolder`. */
export function serverProperties(parts: ConfigParts, dataFolder: string): string {
  const { member, members, ports, lines } = parts
  const listeners = listenersOf(member, ports)
  const list = (text: (one: Listener) => string): string => listeners.map(text).join(',')
  const open = listeners.filter(({ advertised }) => advertised !== null)
  const own = [
    'process.roles=broker,controller',
    `node.id=${member.id}`,
    `controller.quorum.voters=${members.map(({ id, host }) => `${id}@${host}:${CONTROLLER}`).join(',')}`,
    'controller.listener.names=CONTROLLER',
    'inter.broker.listener.name=INTERNAL',
    `listeners=${list(({ name, port }) => `${name}://:${port}`)}`,
    `advertised.listeners=${open.map(({ name, advertised }) => `${name}://${advertised}`).join(',')}`,
    `listener.security.protocol.map=${list(({ name, protocol }) => `${name}:${protocol}`)}`,
    `log.dirs=${dataFolder}`,
  ]
  return `${[...own, ...MODEST, ...replication(members.length), ...lines].join('\n')}\n`
}

/** Warnings and worse go to the container's log. */
export const logging = `
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %-5p %c{1}: %m%n
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
logger.network.name = org.apache.kafka.clients.NetworkClient
logger.network.level = ERROR
logger.replication.name = kafka.server.ReplicaFetcherThread
logger.replication.level = ERROR
`
