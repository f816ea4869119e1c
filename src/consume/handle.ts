import { MessageContext } from './context.ts'
import { Execution, type ExecutionOptions } from './execution.ts'
import type { Held } from './held.ts'
import type { ReceivedMessage } from './message.ts'
import { EXHAUSTED, type Outcome } from './outcome.ts'
import type { Publications } from './publications.ts'
import { type RunOptions, runHandler } from './run-handler.ts'
import { after, type Eventually } from './value-or-promise.ts'

/** What handling needs. */
export interface HandlingOptions extends RunOptions {
  readonly group: string
  /** Tries in all. */
  readonly attempts: number
  readonly publications: Publications
  readonly execution: ExecutionOptions
}

/**
 * Runs the handler for these messages, one after the other, and writes what came of it into their
 * outcomes. Never throws and never rejects; a synchronous handler costs no promise.
 */
export function handleEach(
  fresh: readonly Held[],
  tx: unknown,
  options: HandlingOptions,
  from = 0,
): Eventually<void> {
  for (let at = from; at < fresh.length; at++) {
    const one = fresh.length === 1 ? fresh : fresh.slice(at, at + 1)
    const step = handleOne(one, tx, options)
    if (step !== undefined) return step.then(() => handleEach(fresh, tx, options, at + 1))
  }
}

/** A slice of one. */
function handleOne(
  one: readonly Held[],
  tx: unknown,
  options: HandlingOptions,
): Promise<void> | undefined {
  const held = one[0] as Held
  if (held.attempt > options.attempts) {
    held.outcome = EXHAUSTED
    return undefined
  }
  const message = held.message as ReceivedMessage
  message.attempt = held.attempt
  const execution = begin(one, options)
  const { group, publications } = options
  const context = new MessageContext(message, group, execution, publications, one, tx)
  const outcome = runHandler(message.payload, context, execution, options)
  const end = conclude(one, execution, tx, options, outcome)
  return end instanceof Promise ? end : undefined
}

/** Opens an execution shared by these messages. */
export function begin(together: readonly Held[], options: HandlingOptions): Execution {
  const execution = new Execution(together, options.execution)
  for (const held of together) {
    held.execution = execution
    held.startCounted = false
  }
  return execution
}

/** Writes the outcome; what a handler published is stored before its messages count as done. */
function conclude(
  one: readonly Held[],
  execution: Execution,
  tx: unknown,
  { publications }: HandlingOptions,
  ended: Eventually<Outcome>,
): Eventually<void> {
  return after(ended, (outcome) => {
    for (const held of one) held.outcome = outcome
    const { publication } = execution
    if (publication === null || outcome.kind !== 'done') return undefined
    return publications.separate ? publications.store(one, execution, tx) : undefined
  })
}
