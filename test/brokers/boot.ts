import type { WaitStrategy } from 'testcontainers'

import type { ContainerNode } from './container-node.ts'
import { removeContainer, type LoopbackContainer } from './containers.ts'

/**
 * Starts a container and resolves when the server in it can be used. One that did not come up is
 * removed, and its log is part of the error. `made` is null until the container was created.
 */
export async function startOrTell<Node extends ContainerNode>(
  what: string,
  container: LoopbackContainer,
  made: () => Node | null,
): Promise<Node> {
  try {
    await container.withWaitStrategy(atOnce).start()
    const node = made()!
    await node.untilUp()
    return node
  } catch (error) {
    const node = made()
    const logs = (await node?.logs().catch(String)) ?? ''
    if (node !== null) await removeContainer(node.containerId)
    throw new Error(`${what} did not start: ${String(error)}\n${logs}`, { cause: error })
  }
}

/** The server is asked by itself: a wait of Testcontainers would remove it before its log is read. */
const atOnce: WaitStrategy = {
  waitUntilReady: () => Promise.resolve(),
  withStartupTimeout: () => atOnce,
  isStartupTimeoutSet: () => true,
  getStartupTimeout: () => 0,
}
