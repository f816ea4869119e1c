import { describe, it } from 'vitest'

import * as cells from '../adapters/rabbitmq/faults/consuming.ts'
import { ownStage } from './rabbitmq/own-stage.ts'

describe('consumers of RabbitMQ that die', () => {
  const stage = ownStage()

  it('lose nothing in 30 deaths with 100 messages in their hands', () =>
    cells.consumerKilled(stage(), { messages: 20_000, kills: 30 }))

  it('share a queue with plain clients for 10 000 messages', () => cells.mixedFleet(stage(), 5_000))
})
