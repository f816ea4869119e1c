/** Moves the outbox to the broker until it is told to stop. */
import { constant } from '../../src/policy/backoff.ts'
import { OutboxRelay } from '../../src/publish/relay.ts'
import { sqlite } from '../../adapters/sqlite/broker.ts'
import { sqliteOutbox } from '../../adapters/sqlite/outbox.ts'
import { asked, childMain, insisting, type Duty } from './rig/child-main.ts'
import { crashing } from './rig/crash.ts'
import { GROUP, TOPIC } from './rig/goods.ts'
import { counting, watchMemory } from './rig/metrics.ts'

const DRAIN_MS = 20_000

async function relay({ task, journal, stop }: Duty<'relay'>): Promise<void> {
  const { paths, busyMs, leaseMs, batchSize, pollMs, attempts, maxBodyBytes } = task
  const stopWatching = watchMemory(journal)
  const outbox = sqliteOutbox({ file: paths.app, busyMs })
  const moving = new OutboxRelay({
    broker: sqlite({ file: paths.broker, busyMs, maxBodyBytes }),
    outbox,
    topics: { [TOPIC]: { groups: [GROUP] } },
    leaseMs,
    batchSize,
    pollMs,
    attempts,
    backoff: constant(20),
    logging: 'silent',
    on: counting(journal),
    crash: crashing(task.crash, journal),
  })
  await insisting(() => moving.start(), { stop, journal })
  await asked(stop)
  await moving.drain({ timeoutMs: DRAIN_MS })
  await outbox.close()
  stopWatching()
}

await childMain('relay', relay)
