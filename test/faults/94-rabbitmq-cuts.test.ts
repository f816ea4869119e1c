import { describe, it } from 'vitest'

import * as cells from '../adapters/rabbitmq/faults/publishing.ts'
import { ownStage } from './rabbitmq/own-stage.ts'

describe('a connection to RabbitMQ that breaks for minutes', () => {
  const stage = ownStage()

  it('costs none of 100 000 messages when it is cut every 2 s', () =>
    cells.connectionCut(stage(), { messages: 100_000, everyMs: 2_000, cuts: 4 }))

  it('answers 64 callers for 20 s with a reset every 0.7 s', () =>
    cells.manyCallers(stage(), { callers: 64, forMs: 20_000, everyMs: 700 }))

  it('keeps the order of keys for 60 s with a reset every 1.5 s', () =>
    cells.keyedCallers(stage(), { forMs: 60_000, everyMs: 1_500 }))
})
