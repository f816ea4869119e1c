import {
  connect,
  exponential,
  type HoldfastConfig,
  type HoldfastEvent,
  type LogSink,
} from 'holdfast'

import { charging } from './billing.ts'
import type { History } from './history.ts'
import { Intake } from './intake.ts'
import { BILLING, Orders, PARTITIONS, RETRY_LEVELS_MS } from './orders.ts'
import { files, type Settings } from './settings.ts'

/** What a process does. */
export type Role = 'intake' | 'relay' | 'billing'

/** At most this many charges are in work at a time in one process. */
const CONCURRENCY = 8
/** What a killed process held goes to another one this much later; the default is longer. */
const LEASE_MS = 3_000
const DRAIN_MS = 10_000

/**
 * All that depends on the broker is in here: another `--broker` changes nothing else. Orders,
 * charges, outbox and inbox are in one SQLite file.
 */
function configOf({ dir, broker, url, prefix }: Settings) {
  const store = { use: 'sqlite', file: files.shop(dir) } as const
  const embedded = { file: files.broker(dir), leaseMs: LEASE_MS }
  const place = broker === 'sqlite' ? embedded : url === null ? {} : { url, prefix }
  const topic = { groups: [BILLING], partitions: PARTITIONS, retryLevelsMs: RETRY_LEVELS_MS }
  return {
    broker: { use: broker, ...place },
    outbox: store,
    inbox: store,
    topics: { [Orders.name]: topic },
    source: 'shop',
  } satisfies HoldfastConfig
}

/** Does the work of these roles until the input is taken (intake) or the signal aborts (the others). */
export async function work(
  roles: readonly Role[],
  settings: Settings,
  history: History,
  signal: AbortSignal,
  logging: LogSink = console,
): Promise<void> {
  const relay = roles.includes('relay') && { leaseMs: LEASE_MS }
  const on = (event: HoldfastEvent): void => record(event, history)
  const messaging = await connect({ ...configOf(settings), relay, on, logging })
  try {
    if (roles.includes('billing')) {
      const handler = charging(settings.failures, history)
      const retry = { attempts: 10, backoff: exponential({ initialMs: 100, maxMs: 2_000 }) }
      const options = { group: BILLING, concurrency: CONCURRENCY, retry }
      await messaging.consumer(Orders, options, handler).start()
    }
    if (roles.includes('intake')) {
      await new Intake(messaging.publisher, settings, history).run(signal)
    }
    if (roles.some((role) => role !== 'intake')) await aborted(signal)
  } finally {
    await messaging.drain({ timeoutMs: DRAIN_MS })
  }
}

/** Connects and closes, so that what the broker cannot do is said before anything starts. */
export async function tryBroker(settings: Settings): Promise<void> {
  const config = { ...configOf(settings), relay: false, waitForBrokerMs: 15_000 }
  const messaging = await connect(config)
  await messaging.close()
}

function record(event: HoldfastEvent, history: History): void {
  switch (event.type) {
    case 'relay.published':
      return history.write('ok', { op: 'publish', count: event.count })
    case 'relay.parked':
      return history.write('fail', { op: 'park', message: event.id, reason: event.reason })
    case 'message.done':
      return history.write('ok', { op: 'done', message: event.id })
    case 'message.duplicate':
      return history.write('info', { op: 'duplicate', message: event.id })
    case 'message.dead':
      return history.write('ok', { op: 'dead', message: event.id, reason: event.reason })
    default:
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
