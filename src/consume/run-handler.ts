import type { CrashPoints } from '../contract/crash-points.ts'
import type { Execution } from './execution.ts'
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
  context: unknown,
  execution: Execution,
  options: RunOptions,
): Eventually<Outcome> {
  let result: unknown
  try {
    result = options.call(input as never, context as never)
  } catch (thrown) {
    return threw(thrown, execution, options)
  }
  if (isThenable(result)) return awaited(result, execution, options)
  return returned(result, execution)
}

function awaited(
  result: PromiseLike<unknown>,
  execution: Execution,
  options: RunOptions,
): Promise<Outcome> {
  return new Promise((resolve) => {
    execution.begin((error) => resolve({ kind: 'failed', error }))
    // Resolving once more after the timeout does nothing: the first outcome counts.
    result.then(
      (value) => resolve(returned(value, execution)),
      (thrown: unknown) => resolve(threw(thrown, execution, options)),
    )
  })
}

function returned(value: unknown, execution: Execution): Outcome {
  execution.result = value
  execution.end()
  return DONE
}

function threw(thrown: unknown, execution: Execution, { crash }: RunOptions): Outcome {
  crash.at('handler_throw')
  execution.end()
  if (execution.aborted) return ABORTED
  const error = asError(thrown)
  return { kind: isStoreAway(error) ? 'unavailable' : 'failed', error }
}
