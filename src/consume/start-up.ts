import type { Deadline, Receiver } from '../contract/broker.ts'
import type { Emit } from '../contract/events.ts'
import { withDeadline } from '../policy/deadline.ts'
import { openStore } from '../send/open-store.ts'
import { Session } from '../send/session.ts'
import { type Steps, Parts } from './parts.ts'
import type { Pauses } from './pauses.ts'
import { checkCapabilities, type Settings } from './settings.ts'
import type { Live } from './shut-down.ts'

/** What starting up needs. */
export interface StartUpOptions {
  readonly settings: Settings
  readonly emit: Emit
  readonly pauses: Pauses
  /** Its abort gives up starting, and later everything that would be tried again. */
  readonly stopping: AbortController
  readonly steps: Steps
}

/** How long giving back what was opened takes at most after a start failed. */
const UNDO_MS = 5_000

/**
 * Opens broker and stores, declares what is needed and begins to receive. Rejects at the deadline or
 * when it is aborted, and then leaves nothing open.
 */
export async function startUp(options: StartUpOptions, deadline: Deadline): Promise<Live> {
  const { settings, emit, stopping } = options
  const { broker, clock, random, crash } = settings
  const session = Session.join(broker, { clock, random, crash, emit })
  const open = (): Promise<Live> => openAll(options, session)
  try {
    return await withDeadline(clock, deadline, open, 'starting the consumer', stopping.signal)
  } catch (error) {
    stopping.abort(error)
    await session.leave(clock.now() + UNDO_MS).catch(() => undefined)
    throw error
  }
}

async function openAll(options: StartUpOptions, session: Session): Promise<Live> {
  const { settings, emit, pauses, stopping } = options
  const { inbox, outbox, clock, crash, topology, provision, group } = settings
  const { signal } = stopping
  const capabilities = await session.ready()
  checkCapabilities(settings, capabilities)
  const context = { clock, crash, emit }
  if (inbox !== null) await openStore(inbox, context)
  if (outbox !== null) await openStore(outbox, context)
  await session.provision(topology, provision)
  signal.throwIfAborted()
  let receiver: Receiver | null = null
  const around = { settings, session, capabilities, pauses, emit, stopping: signal }
  const parts = new Parts({ ...around, receiver: () => receiver, steps: options.steps })
  receiver = await session.broker.receive(subscriptionOf(settings), parts.intake)
  // It was given up meanwhile: nobody else would close it.
  if (signal.aborted) await receiver.close(clock.now() + UNDO_MS)
  signal.throwIfAborted()
  pauses.attach(receiver, capabilities.pause === 'source')
  return { session, parts, receiver, pauses, stopping, group, clock, emit }
}

function subscriptionOf(settings: Settings): Parameters<Settings['broker']['receive']>[0] {
  const { topics, group, ordering, from, prefetch } = settings
  return { topics: [...topics.keys()], group, ordering, from, maxHeld: prefetch }
}
