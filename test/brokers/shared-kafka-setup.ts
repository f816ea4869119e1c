import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

import type { TestProject } from 'vitest/node'

import { startKafka, startKafkaCluster } from './kafka.ts'

/** Starts what is asked for at the first time, and answers with how to find it. */
class Shared {
  readonly #removals: (() => Promise<void>)[] = []
  readonly #started = new Map<string, Promise<unknown>>()

  find(path: string): Promise<unknown> {
    let found = this.#started.get(path)
    if (found === undefined) {
      found = path === '/cluster' ? this.#cluster() : this.#node()
      this.#started.set(path, found)
    }
    return found
  }

  async remove(): Promise<void> {
    await Promise.allSettled(this.#started.values())
    await Promise.all(this.#removals.map((remove) => remove()))
  }

  async #node(): Promise<unknown> {
    const { node, remove } = await startKafka()
    this.#removals.push(remove)
    return node.address
  }

  async #cluster(): Promise<unknown> {
    const cluster = await startKafkaCluster()
    this.#removals.push(() => cluster.remove())
    return cluster.address
  }
}

/**
 * Global setup of the test runner: a broker and a cluster for all test files. Each is started when
 * the first file asks for it, since many need neither, and removed when all have ended.
 */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const shared = new Shared()
  const server = createServer((request, response) => void answer(shared, request, response))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  project.provide('kafka', `http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  return async () => {
    await closed(server)
    await shared.remove()
  }
}

async function answer(
  shared: Shared,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  try {
    response.end(JSON.stringify(await shared.find(request.url ?? '')))
  } catch (error) {
    response.writeHead(500).end(String(error))
  }
}

async function closed(server: Server): Promise<void> {
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
}
