import assert from 'node:assert/strict'
import { describe, it } from 'vitest'

import { consumer, keys, relay, writer } from './rig/jobs.ts'
import { inRun, type Run } from './rig/run.ts'

const LIMIT_MS = 60_000

/** How many deliveries a process got. */
function deliveredTo(run: Run, proc: string): number {
  return run.lines((entry) => entry.op === 'deliver' && entry.proc === proc).length
}

/** How many relays had half of the buckets. */
function sharing(run: Run): number {
  const halves = run.lines(({ name, value }) => name === 'relay.leases' && value === 32)
  return new Set(halves.map(({ proc }) => proc)).size
}

describe('several processes on one file', () => {
  it('publish, relay and consume side by side: none lost, none twice, keys in order', async () => {
    await inRun({ layout: 'one file' }, async (run) => {
      // Many keys, so that every part of the work has some.
      const job = { keys: keys(48), each: 5, perTransaction: 8, pauseMs: 20 }
      run.worker('direct-1', writer({ ...job, producer: 'd1', via: 'broker' }))
      run.worker('direct-2', writer({ ...job, producer: 'd2', via: 'broker' }))
      run.worker('inserting', writer({ ...job, producer: 'i' }))
      for (const name of ['relay-1', 'relay-2']) run.worker(name, relay({ leaseMs: 2_000 }))
      for (const name of ['consumer-1', 'consumer-2'])
        run.worker(name, consumer({ leaseMs: 2_000 }))
      await run.until('the relays to share the buckets', LIMIT_MS, () => sharing(run) === 2)
      await run.drained(LIMIT_MS)
      await run.verdict({ demands: { published: 720, delivered: 720, refused: 1 } })
      assert.ok(deliveredTo(run, 'consumer-1.0') > 0, 'the first consumer got nothing')
      assert.ok(deliveredTo(run, 'consumer-2.0') > 0, 'the second consumer got nothing')
    })
  })

  it('bring back what a killed consumer held, and nothing it had finished', async () => {
    await inRun({ layout: 'one file' }, async (run) => {
      run.worker('writer', writer({ each: 20 }))
      run.worker('relay', relay({ leaseMs: 5_000 }))
      const job = consumer({ handlerMs: 50 })
      const doomed = run.worker('doomed', job, { restart: false })
      const done = (): number => run.metric('message.done')
      await run.until(
        'the consumer in the middle of its work',
        LIMIT_MS,
        () => done() >= 30 && deliveredTo(run, 'doomed.0') - done() >= 4,
      )
      doomed.life.kill()
      await doomed.life.ended
      const finished = new Set(run.reader.effects().map(({ delivery = '' }) => rowOf(delivery)))
      run.worker('heir', job)
      await run.drained(LIMIT_MS)
      const inherited = run.lines(({ op, proc }) => op === 'deliver' && proc === 'heir.0')
      const again = inherited.filter(({ redelivered }) => redelivered === true)
      assert.ok(again.length > 0, 'it was killed while it held nothing')
      assert.deepEqual(
        inherited.filter(({ delivery = '' }) => finished.has(rowOf(delivery))),
        [],
        'what was finished came again',
      )
      await run.verdict({
        duplicates: job.held,
        demands: { published: 160, delivered: 161, redelivered: 1, killed: 1 },
      })
    })
  })
})

/** The broker's row of a delivery. */
function rowOf(delivery: string): string | undefined {
  return delivery.split('~')[0]
}
