import assert from 'node:assert/strict'

import type { CrashPoint } from '../../../src/contract/crash-points.ts'
import type { Layout } from './files.ts'
import { confirmedAndThere, publishedAgain } from './judge.ts'
import { consumer, relay, writer } from './jobs.ts'
import { inRun, type Run } from './run.ts'
import type { CrashPlan } from './task.ts'

/** Where a crash point is visited, and what a crash there costs. */
export interface Spot {
  readonly in: 'writer' | 'relay' | 'consumer'
  /** It is visited once in a life. */
  readonly once?: boolean
  /** Dying there for the first time publishes nothing again ('none'), or a batch ('some'). Default: as it happens. */
  readonly again?: 'none' | 'some'
}

/** Every crash point; those that processes on SQLite never come to say why. */
export const spots: Readonly<Record<CrashPoint, Spot | string>> = {
  after_insert_before_commit: { in: 'writer' },
  after_commit_before_nudge: { in: 'writer' },
  after_lease: { in: 'relay', once: true, again: 'none' },
  after_select: { in: 'relay', again: 'none' },
  after_send_some: 'a flush to this broker is one send, so the first is the last',
  after_send_all: { in: 'relay', again: 'none' },
  after_confirm_some: { in: 'relay', again: 'some' },
  after_confirm_before_delete: { in: 'relay', again: 'some' },
  during_delete: { in: 'relay', again: 'some' },
  after_delete_before_ack_state: { in: 'relay' },
  during_park: { in: 'relay' },
  during_lease_renew: { in: 'relay', again: 'none' },
  during_shutdown: { in: 'relay', once: true },
  after_deliver: { in: 'consumer' },
  after_begin: { in: 'consumer' },
  after_inbox_insert: { in: 'consumer' },
  after_effect: { in: 'consumer' },
  after_commit_before_ack: { in: 'consumer' },
  after_ack: { in: 'consumer' },
  before_retry_publish: 'this broker delays retries itself',
  after_retry_publish_before_ack: 'this broker delays retries itself',
  after_dlq_publish_before_ack: { in: 'consumer' },
  handler_throw: { in: 'consumer' },
}

/** A crash point that is reached. */
export interface Reached extends Spot {
  readonly point: CrashPoint
}

/** Those that are, in the order messages travel. */
export const reached: readonly Reached[] = Object.entries(spots).flatMap(([point, spot]) =>
  typeof spot === 'string' ? [] : [{ ...spot, point: point as CrashPoint }],
)

/** What is done at which visit on which files. */
export interface Strike {
  readonly spot: Reached
  readonly visit: number
  readonly layout: Layout
  readonly seed: number
}

const HELD = 16
const LIMIT_MS = 60_000
/** One on each of five keys, so that a fifth visit to parking exists. */
const oversize = [0, 1, 2, 3, 4].map((key) => `w-k${key}-3`)

/** Kills the process at the point, starts it again, and holds the run to all properties. */
export function strike({ spot, visit, layout, seed }: Strike): Promise<void> {
  // Enough for a later visit to come, also when a slow machine puts much into one step.
  const each = 12 * visit
  const fates = { seed, permanent: 0.12, transient: 0.12, killer: null }
  const crash: CrashPlan = { point: spot.point, visit, action: 'kill' }
  return inRun({ layout }, async (run) => {
    let predicted: ReadonlySet<string> = new Set()
    const onDeath = async (): Promise<void> => {
      predicted = confirmedAndThere(run)
    }
    const optionsOf = (name: Spot['in']): { crash: CrashPlan; onDeath: typeof onDeath } | object =>
      spot.in === name ? { crash, onDeath } : {}
    const workers = {
      writer: run.worker('writer', writer({ each, oversize }), optionsOf('writer')),
      relay: run.worker('relay', relay({ batchSize: 8 }), optionsOf('relay')),
      consumer: run.worker('consumer', consumer({ fates, held: HELD }), optionsOf('consumer')),
    }
    const doomed = workers[spot.in]
    if (spot.point === 'during_shutdown') await shutDown(run)
    await run.until(`visit ${visit} of ${spot.point}`, LIMIT_MS, () => doomed.deaths === 1)
    await run.drained(LIMIT_MS)
    assertPredicted(run, spot, visit, predicted)
    const lost = run.lines(({ op, outcome }) => op === 'settle' && outcome === 'lost').length
    await run.verdict({
      fates,
      oversize,
      attemptLimit: 4,
      drainedWithinMs: LIMIT_MS,
      duplicates: predicted.size + lost + (spot.in === 'consumer' ? HELD : 0),
      demands: {
        published: 8 * each,
        delivered: 8 * each - oversize.length,
        killed: 1,
        faults: 1,
        refused: 1,
        dead: oversize.length + 1,
      },
    })
  })
}

/** Asks the relay to end while it works. */
async function shutDown(run: Run): Promise<void> {
  const relay = run.workers.find(({ role }) => role === 'relay')
  await run.until('the relay at work', LIMIT_MS, () => run.metric('relay.published') > 0)
  relay?.life.stop()
}

/** The same messages, each exactly once more: unavoidable, and no more than that. */
function assertPredicted(
  { history }: Run,
  { point, again, in: place }: Reached,
  visit: number,
  predicted: ReadonlySet<string>,
): void {
  const published = publishedAgain(history.read())
  if (place !== 'relay') return assert.deepEqual([...published], [], 'published twice')
  assert.deepEqual([...published.keys()].toSorted(), [...predicted].toSorted())
  assert.ok(
    [...published.values()].every((times) => times === 1),
    'published more than twice',
  )
  if (again === 'some') assert.ok(predicted.size > 0, `${point} came before anything was confirmed`)
  if (again === 'none' && visit === 1) assert.equal(predicted.size, 0, point)
}
