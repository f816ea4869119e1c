import assert from 'node:assert/strict'
import { describe, it } from 'vitest'

import { publishedAgain } from './rig/judge.ts'
import { consumer, relay, writer } from './rig/jobs.ts'
import { inRun } from './rig/run.ts'

const layouts = ['one file', 'two files'] as const
const calm = { leaseMs: 60_000 }

describe('a writer, a relay and a consumer without faults', () => {
  it.each(layouts)('deliver everything once and in order, on %s', async (layout) => {
    await inRun({ layout }, async (run) => {
      run.worker('writer', writer({ each: 50, pauseMs: 1 }))
      run.worker('relay', relay(calm))
      run.worker('consumer', consumer(calm))
      await run.drained(60_000)
      await run.stop()
      assert.equal(run.metric('relay.published'), 400)
      await run.verdict({
        duplicates: 0,
        drainedWithinMs: 20_000,
        publishWithinMs: 20_000,
        metrics: {
          published: run.metric('relay.published'),
          acked: run.metric('message.done'),
          dead: 0,
        },
        demands: { published: 400, delivered: 400, refused: 20 },
      })
      assert.equal(publishedAgain(run.history.entries).size, 0)
      assert.equal(run.metric('relay.fenced'), 0)
    })
  })
})
