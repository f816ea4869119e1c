import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest'

import { FaultStage } from '../../adapters/rabbitmq/faults/fault-stage.ts'
import { startNode, type OwnNode } from '../../brokers/rabbitmq.ts'

/** A stage for each test, on a node that only the tests of this block use. */
export function ownStage(): () => FaultStage {
  let own: OwnNode
  let stage: FaultStage
  beforeAll(async () => {
    own = await startNode()
  })
  afterAll(() => own.remove())
  beforeEach(async () => {
    stage = await FaultStage.on(own.node)
  })
  afterEach(() => stage.end())
  return () => stage
}
