import { afterEach, beforeEach, describe, it } from 'vitest'

import { sharedNode } from '../../../brokers/shared-node.ts'
import { FaultStage } from './fault-stage.ts'
import * as cells from './publishing.ts'

describe('publishing through faults', () => {
  let stage: FaultStage

  beforeEach(async () => {
    stage = await FaultStage.on(sharedNode())
  })
  afterEach(() => stage.end())

  it('stores what it confirmed while the connection is cut again and again', () =>
    cells.connectionCut(stage, { messages: 10_000, everyMs: 1_000, cuts: 2 }))

  it('answers 64 callers through resets, and marks what may be stored twice', () =>
    cells.manyCallers(stage, { callers: 64, forMs: 6_000, everyMs: 700 }))

  it('keeps the order of keys through resets', () =>
    cells.keyedCallers(stage, { forMs: 6_000, everyMs: 700 }))

  it('sends again what was never confirmed, and marks it', () => cells.confirmsLost(stage, 1_000))

  it('refuses one poison among 500 and confirms the others', () => cells.poisonInABurst(stage, 500))

  it('refuses what reaches no queue, among what does', () =>
    cells.unroutableAmongGood(stage, { good: 1_000, every: 10 }))

  it('confirms nothing that is stored nowhere when a binding goes', () =>
    cells.bindingTakenAway(stage))

  it('waits while a queue is full, and loses nothing', () => cells.queueFull(stage, 400))

  it('stands still during a memory alarm', () =>
    cells.memoryAlarm(stage, { forMs: 4_000, callers: 1_000 }))

  it('survives a node that stands still', () => cells.nodeFrozen(stage, 4_000))

  it('survives a node that is killed', () =>
    cells.nodeKilled(stage, { kills: 1, betweenMs: 3_000 }))
})
