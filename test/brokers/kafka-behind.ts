import type { KafkaNode } from './kafka-node.ts'
import { KafkaProxy } from './proxy/kafka-proxy.ts'

/** A way to brokers that leads through a proxy before each of them. */
export interface Behind {
  /** In the order of the nodes. */
  readonly proxies: readonly KafkaProxy[]
  /** `host:port` of each for clients, which then find nothing but proxies. */
  readonly brokers: readonly string[]
  close(): Promise<void>
}

/**
 * Opens a proxy before each of these brokers, on the first listener that is free on all of them.
 * Rejects when every listener is in use: `proxied` says how many a broker has.
 */
export async function openBehind(
  nodes: readonly KafkaNode[],
  onFired: (name: string) => void = () => undefined,
): Promise<Behind> {
  const count = Math.min(...nodes.map(({ address }) => address.ports.proxied.length))
  for (let n = 0; n < count; n++) {
    const behind = await openAt(nodes, n, onFired)
    if (behind !== null) return behind
  }
  throw new Error(`all ${count} listeners for proxies are in use: close one, or start with more`)
}

/** Null when one of them is in use. */
async function openAt(
  nodes: readonly KafkaNode[],
  index: number,
  onFired: (name: string) => void,
): Promise<Behind | null> {
  const started = await Promise.allSettled(
    nodes.map(({ address }) => {
      const { port, advertised } = address.ports.proxied[index]!
      return KafkaProxy.start({ target: () => ({ host: '127.0.0.1', port }), onFired }, advertised)
    }),
  )
  const proxies = started.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
  const close = async (): Promise<void> => {
    await Promise.all(proxies.map((proxy) => proxy.close()))
  }
  const failed = started.find((one) => one.status === 'rejected')
  if (failed === undefined) {
    return { proxies, brokers: proxies.map(({ port }) => `127.0.0.1:${port}`), close }
  }
  await close()
  if ((failed.reason as NodeJS.ErrnoException).code === 'EADDRINUSE') return null
  throw failed.reason
}
