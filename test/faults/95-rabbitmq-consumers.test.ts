import { afterAll, afterEach, beforeAll, beforeEach, describe, it } from 'vitest'

import * as cells from '../adapters/rabbitmq/faults/consuming.ts'
import { FaultStage } from '../adapters/rabbitmq/faults/fault-stage.ts'
import { startNode, type OwnNode } from '../brokers/rabbitmq.ts'

describe('consumers of RabbitMQ that die', () => {
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

  it('lose nothing in 30 deaths with 100 messages in their hands', () =>
    cells.consumerKilled(stage, { messages: 20_000, kills: 30 }))

  it('share a queue with plain clients for 10 000 messages', () => cells.mixedFleet(stage, 5_000))
})
