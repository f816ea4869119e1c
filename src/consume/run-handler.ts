import type { CrashPoints } from '../contract/crash-points.ts'
import { ExecutionContext } from './context.ts'
import { asError, isStoreAway } from './failure.ts'
import type { Call } from './middleware.ts'
import { ABORTED, DONE, type Outcome } from './outcome.ts'
import { type Eventually, isThenable } from './value-or-promise.ts'

/** What running a handler needs. */
export interface RunOptions {
  /** The handler with its middleware. */
  readonly call: Call<never>
  readonly crash: CrashPoints
}

/**
 * Runs the handler once, under its deadline. Never throws: what it throws becomes the outcome. A
 * handler that is still running at its deadline has failed; that it ends later is told to the
 * execution only. Its result is left there too.
 */
export function runHandler(
  input: unknown,
  context: ExecutionContext,
  options: RunOptions,
): Eventually<Outcome> {
  let result: unknown
  let isLater: boolean
  try {
    result = options.call(input as never, context as never)
    isLater = isThenable(result)
  } catch (thrown) {
    return threw(thrown, context, options)
  }
  return isLater ? awaited(result, context, options) : returned(result, context)
}

function awaited(
  result: unknown,
  context: ExecutionContext,
  options: RunOptions,
): Promise<Outcome> {
  return new Promise((resolve) => {
    ExecutionContext.executionOf(context).begin((error) => resolve({ kind: 'failed', error }))
    // Resolving once more after the timeout does nothing: the first outcome counts.
    Promise.resolve(result).then(
      (value) => resolve(returned(value, context)),
      (thrown: unknown) => resolve(threw(thrown, context, options)),
    )
  })
}

function returned(value: unknown, context: ExecutionContext): Outcome {
  const execution = ExecutionContext.end(context)
  if (execution === null) return DONE
  execution.result = value
  // It would be done without what the handler meant to publish.
  const error = execution.unseenRefusal
  return error === null ? DONE : { kind: 'failed', error }
}

function threw(thrown: unknown, context: ExecutionContext, { crash }: RunOptions): Outcome {
  crash.at('handler_throw')
  const execution = ExecutionContext.end(context)
  if (execution?.aborted === true) return ABORTED
  const error = asError(thrown)
  return { kind: isStoreAway(error) ? 'unavailable' : 'failed', error }
}
