import { shown } from '../contract/errors.ts'
import { ExecutionContext } from './context.ts'
import type { Execution } from './execution.ts'
import { asError } from './failure.ts'
import type { HandlingOptions } from './handle.ts'
import type { Held } from './held.ts'
import type { Lane } from './lanes.ts'
import type { Message, ReceivedMessage } from './message.ts'
import { DEFERRED, DONE, EXHAUSTED, type Outcome } from './outcome.ts'
import { runHandler } from './run-handler.ts'

/** What a batch handler may report; nothing reported means that all of it is done. */
export interface BatchResult {
  /** Messages without an effect, and why. Everything else of the batch is done. */
  readonly failed: readonly { readonly message: Message; readonly error: unknown }[]
}

/**
 * Runs the batch handler once for these messages. A handler that throws failed as a whole: its
 * messages are handled again one by one. So are those of which one failed before one of the same key
 * that is done: order would be lost. Never throws.
 */
export async function handleBatch(
  fresh: readonly Held[],
  tx: unknown,
  options: HandlingOptions,
): Promise<void> {
  const batch = fresh.filter((held) => isWithin(held, options.attempts))
  if (batch.length === 0) return
  const messages = batch.map(({ message, attempt }) =>
    Object.assign(message as ReceivedMessage, { attempt }),
  )
  for (const held of batch) held.startCounted = false
  const context = new ExecutionContext(batch, tx, options)
  const execution = ExecutionContext.executionOf(context)
  const outcome = await runHandler(messages, context, options)
  if (outcome.kind === 'done') {
    spread(batch, execution, tx)
    return store(batch, execution, tx, options)
  }
  execution.rollBack = true
  if (outcome.kind === 'failed' && batch.length > 1) againAlone(batch)
  else for (const held of batch) held.outcome = outcome
}

function isWithin(held: Held, attempts: number): boolean {
  if (held.attempt <= attempts) return true
  held.outcome = EXHAUSTED
  return false
}

/** One outcome for each message from the report; a report that cannot be read fails the whole batch. */
function spread(batch: readonly Held[], execution: Execution, tx: unknown): void {
  const failures = failuresIn(execution.result, batch)
  if (failures instanceof Error) {
    execution.rollBack = true
    if (batch.length > 1) againAlone(batch)
    else for (const held of batch) held.outcome = { kind: 'failed', error: failures }
    return
  }
  for (const held of batch) held.outcome = failures.get(held.message as Message) ?? DONE
  const disordered = keysOutOfOrder(batch)
  if (disordered.size === 0) return
  execution.rollBack = true
  // Rolling back takes all of it; without a transaction only those keys can be mended.
  againAlone(tx === undefined ? fromFirstFailure(batch, disordered) : batch)
}

function failuresIn(report: unknown, batch: readonly Held[]): Map<Message, Outcome> | Error {
  const failures = new Map<Message, Outcome>()
  if (report === undefined || report === null) return failures
  const { failed } = report as Partial<BatchResult>
  if (!Array.isArray(failed)) {
    return new TypeError(
      `a batch handler returned ${shown(report)}; allowed: nothing or { failed }`,
    )
  }
  const known = new Set<Message | null>(batch.map(({ message }) => message))
  for (const { message, error } of failed as BatchResult['failed']) {
    if (!known.has(message)) {
      return new TypeError('a batch handler reported a message as failed that it was not given')
    }
    failures.set(message, { kind: 'failed', error: asError(error) })
  }
  return failures
}

/** Keys of which a message failed and a later one is done. */
function keysOutOfOrder(batch: readonly Held[]): ReadonlySet<Lane> {
  const failed = new Set<Lane>()
  const disordered = new Set<Lane>()
  for (const { lane, outcome } of batch) {
    if (lane === null) continue
    if (outcome?.kind === 'failed') failed.add(lane)
    else if (failed.has(lane)) disordered.add(lane)
  }
  return disordered
}

function fromFirstFailure(batch: readonly Held[], lanes: ReadonlySet<Lane>): Held[] {
  const begun = new Set<Lane>()
  return batch.filter(({ lane, outcome }) => {
    if (lane === null || !lanes.has(lane)) return false
    if (outcome?.kind === 'failed') begun.add(lane)
    return begun.has(lane)
  })
}

function againAlone(batch: readonly Held[]): void {
  for (const held of batch) {
    held.outcome = DEFERRED
    held.alone = true
  }
}

/** What the handler published belongs to the batch: it is stored unless the batch is run again. */
async function store(
  batch: readonly Held[],
  execution: Execution,
  tx: unknown,
  { publications }: HandlingOptions,
): Promise<void> {
  if (execution.publication === null || !publications.separate || execution.rollBack) return
  await publications.store(batch, execution, tx)
}
