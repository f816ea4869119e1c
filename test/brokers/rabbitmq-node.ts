import { randomBytes } from 'node:crypto'

import { ContainerNode } from './container-node.ts'
import { speaksAmqp, until } from './handshake.ts'
import { Management } from './management.ts'

const BOOT_TIMEOUT_MS = 180_000

/** How to find a node that somebody started; plain data, so that it can go to another process. */
export interface NodeAddress {
  readonly containerId: string
  /** Its name in a cluster: `rabbit@…`. */
  readonly name: string
  readonly amqpPort: number
  readonly managementPort: number
}

/** A virtual host of its own. */
export interface Vhost {
  readonly name: string
  readonly url: string
  remove(): Promise<void>
}

/** One RabbitMQ node in a container, and what an operator or an accident can do to it. */
export class RabbitmqNode extends ContainerNode {
  readonly address: NodeAddress
  readonly management: Management

  constructor(address: NodeAddress) {
    super(address.containerId)
    this.address = address
    this.management = new Management(address.managementPort)
  }

  /** Without a virtual host: the default one. */
  url(vhost: string = '/', port: number = this.address.amqpPort): string {
    return `amqp://guest:guest@127.0.0.1:${port}/${encodeURIComponent(vhost)}`
  }

  async vhost(name: string = `test-${randomBytes(6).toString('hex')}`): Promise<Vhost> {
    await this.management.createVhost(name)
    return { name, url: this.url(name), remove: () => this.management.deleteVhost(name) }
  }

  /** Runs `rabbitmqctl` in the container; rejects with what it said when it fails. */
  ctl(...args: readonly string[]): Promise<string> {
    return this.run('rabbitmqctl', '--quiet', ...args)
  }

  /** Closes every connection and takes the listeners down, then up again; the process goes on. */
  async restartApp(): Promise<void> {
    // What 'stop_app' and 'start_app' do; each run of the command line tool costs seconds.
    await this.ctl('eval', 'rabbit:stop(), rabbit:start().')
    await this.untilUp()
  }

  /** Ends in order and starts again. */
  async restart(): Promise<void> {
    // The container ends with the node, and may take the command with it: what counts is that it ends.
    await this.ctl('stop').catch(() => undefined)
    await this.untilRunning(false)
    await this.start()
  }

  /**
   * Until what it keeps of its queues is on disk. A quorum queue declared a moment before its only
   * node is killed comes back empty, confirmed messages included: the broker does not wait for the
   * file that says that the queue is there (seen on 4.3.6; a second later it is written).
   */
  async sync(): Promise<void> {
    await this.ctl('eval', '[ok = dets:sync(Table) || Table <- dets:all()].')
  }

  /** Blocks every connection that publishes; returns how it is cleared. */
  async memoryAlarm(): Promise<() => Promise<void>> {
    await this.ctl('set_vm_memory_high_watermark', '0.00001')
    return async () => void (await this.ctl('set_vm_memory_high_watermark', '0.6'))
  }

  /** Blocks as a full disk does; returns how it is cleared. */
  async diskAlarm(): Promise<() => Promise<void>> {
    await this.ctl('set_disk_free_limit', '100TB')
    return async () => void (await this.ctl('set_disk_free_limit', '50MB'))
  }

  /** Those of every virtual host. */
  async closeAllConnections(reason = 'closed by a test'): Promise<void> {
    await this.ctl('close_all_connections', '--global', reason)
  }

  /** Until it speaks AMQP and its management API answers. */
  override async untilUp(): Promise<void> {
    const { amqpPort, managementPort } = this.address
    await until(`AMQP on port ${amqpPort}`, () => this.#speaks(), BOOT_TIMEOUT_MS)
    await until(
      `management on port ${managementPort}`,
      () =>
        this.management.get('overview').then(
          () => true,
          () => false,
        ),
      BOOT_TIMEOUT_MS,
    )
  }

  /** Waiting for a node that has ended would only hide why. */
  async #speaks(): Promise<boolean> {
    if (await this.isRunning()) return speaksAmqp(this.address.amqpPort)
    throw new Error(`the node ${this.address.name} has ended`)
  }
}
