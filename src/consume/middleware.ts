import { HoldfastError } from '../contract/errors.ts'

/**
 * Wraps the handler. Call `next()` at most once, and await it: it resolves when everything further in
 * has ended and rejects with what failed there. Not calling it counts as handled.
 */
export type Middleware<Context> = (context: Context, next: () => Promise<void>) => unknown

/** What is called for a message or a batch. */
export type Call<Context> = (input: never, context: Context) => unknown

/** The handler with its middleware around it, the first one outermost. Without any it is the handler itself. */
export function compose<Context>(
  middleware: readonly Middleware<Context>[],
  handler: Call<Context>,
): Call<Context> {
  if (middleware.length === 0) return handler
  return (input, context) => runFrom(0, middleware, handler, input, context)
}

async function runFrom<Context>(
  index: number,
  middleware: readonly Middleware<Context>[],
  handler: Call<Context>,
  input: never,
  context: Context,
): Promise<unknown> {
  const wrapper = middleware[index]
  if (wrapper === undefined) return handler(input, context)
  let called = false
  let result: unknown
  await wrapper(context, async () => {
    if (called) {
      throw new HoldfastError('option', `middleware[${index}] called next() twice; call it once`)
    }
    called = true
    result = await runFrom(index + 1, middleware, handler, input, context)
  })
  return result
}
