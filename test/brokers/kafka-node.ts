import { ContainerNode } from './container-node.ts'
import { until } from './handshake.ts'
import { askCluster, askController } from './kafka-ask.ts'
import { INTERNAL, type KafkaPorts } from './kafka-config.ts'

const BOOT_TIMEOUT_MS = 180_000
const STOP_TIMEOUT_S = 60

/** How to find a broker that somebody started; plain data, so that it can go to another process. */
export interface KafkaAddress {
  readonly containerId: string
  readonly id: number
  /** By which it is reached from its own container, and from those of its network. */
  readonly host: string
  readonly ports: KafkaPorts
}

/** One Kafka broker, which is a controller as well, and what can be done to it. */
export class KafkaNode extends ContainerNode {
  readonly address: KafkaAddress

  constructor(address: KafkaAddress) {
    super(address.containerId)
    this.address = address
  }

  /** Its id in the cluster, from 1. */
  get id(): number {
    return this.address.id
  }

  /** `host:port` for clients of this machine, with nothing in between. */
  get broker(): string {
    return `127.0.0.1:${this.address.ports.clients}`
  }

  /** `host:port` with TLS and SASL; throws when it was started without security. */
  get secureBroker(): string {
    return securely(this.address.ports.secure)
  }

  /** `host:port` with TLS and a client certificate; throws when it was started without security. */
  get mutualBroker(): string {
    return securely(this.address.ports.mutual)
  }

  /** Gives its partitions away and ends in order. It stays down until `start`. */
  async stop(): Promise<void> {
    await (await this.container()).stop({ t: STOP_TIMEOUT_S })
    await this.untilRunning(false)
  }

  /** Ends in order and starts again. */
  async restart(): Promise<void> {
    await this.stop()
    await this.start()
  }

  /** `host:port` for Kafka's own tools, which run in its container. */
  get internalBroker(): string {
    return `${this.address.host}:${INTERNAL}`
  }

  /**
   * Runs a class of Kafka's own tools, for example `org.apache.kafka.tools.TopicCommand` with
   * `--bootstrap-server` and `internalBroker`; resolves with what it wrote.
   */
  tool(name: string, ...args: readonly string[]): Promise<string> {
    const quick = ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-cp', '/opt/kafka/libs/*']
    return this.run('java', ...quick, name, ...args)
  }

  /** Id of the node that leads the controllers, as this broker knows it. */
  controller(): Promise<number> {
    return askController(this.address.ports.clients)
  }

  /** Ids of the brokers that are up, as this one knows it; rejects when it does not answer. */
  async company(): Promise<readonly number[]> {
    return (await askCluster(this.address.ports.clients)).brokers
  }

  /** Until it counts itself among the brokers that are up. */
  override untilUp(): Promise<void> {
    return until(`broker ${this.id} up`, () => this.#isUp(), BOOT_TIMEOUT_MS)
  }

  /** Waiting for a broker that has ended would only hide why. */
  async #isUp(): Promise<boolean> {
    if (!(await this.isRunning())) throw new Error(`broker ${this.id} has ended`)
    const company = await this.company().catch((): readonly number[] => [])
    return company.includes(this.id)
  }
}

function securely(port: number | null): string {
  if (port === null) throw new Error('this broker was started without security')
  return `127.0.0.1:${port}`
}
