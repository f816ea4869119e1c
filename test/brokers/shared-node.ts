import { inject } from 'vitest'

import { RabbitmqNode, type NodeAddress } from './rabbitmq-node.ts'

declare module 'vitest' {
  interface ProvidedContext {
    rabbitmq: NodeAddress
  }
}

/** The node that all test files share; use a virtual host of your own on it. */
export function sharedNode(): RabbitmqNode {
  return new RabbitmqNode(inject('rabbitmq'))
}
