import type { ContainerRuntimeClient } from 'testcontainers'

import { engine } from './containers.ts'
import { until } from './handshake.ts'

const COMMAND_TIMEOUT_MS = 120_000
const PAUSE_TIMEOUT_MS = 20_000

type Container = ReturnType<ContainerRuntimeClient['container']['getById']>

/** A server in a container, and what an operator or an accident can do to any server. */
export abstract class ContainerNode {
  readonly containerId: string

  constructor(containerId: string) {
    this.containerId = containerId
  }

  /** Resolves once the server can be used; rejects when it has ended, or does not come up in time. */
  abstract untilUp(): Promise<void>

  /** Runs a command in the container as root; rejects with what it said when it fails. */
  async run(...command: readonly string[]): Promise<string> {
    const { container } = await engine()
    const { exitCode, output, stdout } = await bounded(
      command.join(' '),
      container.exec(container.getById(this.containerId), [...command]),
    )
    if (exitCode !== 0) throw new Error(`'${command.join(' ')}' ended with ${exitCode}: ${output}`)
    return stdout
  }

  /** SIGKILL to all of it. It stays down until `start`. */
  async kill(): Promise<void> {
    await (await this.container()).kill({ signal: 'SIGKILL' })
    await this.untilRunning(false)
  }

  /** Resolves when it can be used again. */
  async start(): Promise<void> {
    await (await this.container()).start()
    await this.untilUp()
  }

  /** Every process of it stands still, connections stay; returns how it goes on. */
  async pause(): Promise<() => Promise<void>> {
    const container = await this.container()
    // On a busy machine the engine gives up freezing processes before they stand still.
    const pause = (): Promise<boolean> =>
      container.pause().then(
        () => true,
        () => false,
      )
    await until(`container ${this.containerId} paused`, pause, PAUSE_TIMEOUT_MS)
    let isPaused = true
    return async () => {
      if (!isPaused) return
      isPaused = false
      await container.unpause()
    }
  }

  /** The end of what it wrote, for a report. */
  async logs(): Promise<string> {
    const container = await this.container()
    return (await container.logs({ stdout: true, stderr: true, tail: 60 })).toString()
  }

  async isRunning(): Promise<boolean> {
    return (await (await this.container()).inspect()).State.Running
  }

  protected untilRunning(is: boolean): Promise<void> {
    const what = `container ${this.containerId} ${is ? 'running' : 'stopped'}`
    return until(what, async () => (await this.isRunning()) === is, COMMAND_TIMEOUT_MS)
  }

  protected async container(): Promise<Container> {
    return (await engine()).container.getById(this.containerId)
  }
}

async function bounded<T>(what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`not within ${COMMAND_TIMEOUT_MS} ms: ${what}`)),
      COMMAND_TIMEOUT_MS,
    )
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}
