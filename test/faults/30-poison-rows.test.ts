import assert from 'node:assert/strict'
import { describe, it } from 'vitest'

import { consumer, keys, relay, writer } from '../process/rig/jobs.ts'
import { inRun } from '../process/rig/run.ts'

const LIMIT_MS = 60_000

describe('an outbox row that no broker takes', () => {
  it('is parked with its reason, and the other 999 on 10 keys arrive in order', async () => {
    await inRun({}, async (run) => {
      const oversize = ['w-k4-50']
      run.worker('writer', writer({ keys: keys(10), each: 100, perTransaction: 50, oversize }))
      run.worker('relay', relay({ leaseMs: 10_000 }))
      run.worker('consumer', consumer({ leaseMs: 10_000 }))
      await run.drained(LIMIT_MS)
      assert.equal(run.metric('relay.parked'), 1)
      const [parked] = run.reader.parked()
      assert.equal(parked?.msgId, 'w-k4-50')
      assert.match(parked?.reason ?? '', /too-large.*100\d\d\d.*50000/s)
      assert.equal(run.reader.effects().length, 999)
      await run.verdict({
        oversize,
        duplicates: 0,
        demands: { published: 1_000, delivered: 999, dead: 1 },
      })
    })
  })
})
