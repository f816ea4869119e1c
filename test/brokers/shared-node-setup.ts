import type { TestProject } from 'vitest/node'

import { startNode } from './rabbitmq.ts'

/** Global setup of the test runner: one node for all test files, removed when they have ended. */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const { node, remove } = await startNode()
  project.provide('rabbitmq', node.address)
  return remove
}
