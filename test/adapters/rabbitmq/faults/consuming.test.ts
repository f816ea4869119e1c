import { afterEach, beforeEach, describe, it } from 'vitest'

import { sharedNode } from '../../../brokers/shared-node.ts'
import * as cells from './consuming.ts'
import { FaultStage } from './fault-stage.ts'

describe('consuming through faults', () => {
  let stage: FaultStage

  beforeEach(async () => {
    stage = await FaultStage.on(sharedNode())
  })
  afterEach(() => stage.end())

  it('loses nothing when consumers die with 100 in their hands', () =>
    cells.consumerKilled(stage, { messages: 2_000, kills: 5 }))

  it('settles nothing on another channel than the one that delivered', () => cells.staleTags(stage))

  it('finds in the dead letters what no process survived', () => cells.deliveryLimit(stage, 20))

  it('shares a queue with plain clients', () => cells.mixedFleet(stage, 600))
})
