import { isHoldfastError } from '../../../src/contract/errors.ts'
import { Journal } from './journal.ts'
import type { Role, Task, TaskOf } from './task.ts'

/** What a child program gets. */
export interface Duty<R extends Role> {
  readonly task: TaskOf<R>
  readonly journal: Journal
  /** Aborts when the parent asks for the end; work under way is finished. */
  readonly stop: AbortSignal
}

function taskFor<R extends Role>(role: R): TaskOf<R> {
  const task: unknown = JSON.parse(process.argv[2] ?? 'null')
  if (typeof task === 'object' && task !== null && (task as Task).role === role) {
    return task as TaskOf<R>
  }
  throw new Error(`usage: node child-${role}.js <task of a ${role} as JSON>`)
}

/**
 * Runs a child program. It ends by itself when the work is done, which shows that nothing was left
 * open; it ends at once when its parent goes away.
 */
export async function childMain<R extends Role>(
  role: R,
  work: (duty: Duty<R>) => Promise<void>,
): Promise<void> {
  const task = taskFor(role)
  const journal = new Journal(task.paths.history, task.proc)
  const stopping = new AbortController()
  const orphaned = (): void => process.exit(1)
  process.once('disconnect', orphaned)
  process.once('message', () => stopping.abort())
  await work({ task, journal, stop: stopping.signal })
  journal.write('process_end', 'ok')
  process.off('disconnect', orphaned)
  process.disconnect?.()
}

/** Resolves when the parent asks for the end. */
export function asked(stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (stop.aborted) resolve()
    else stop.addEventListener('abort', () => resolve(), { once: true })
  })
}

/** Starts although somebody has the file locked at the moment: the error says that waiting helps. */
export async function insisting(
  start: () => Promise<void>,
  { stop, journal }: Pick<Duty<Role>, 'stop' | 'journal'>,
): Promise<void> {
  while (!stop.aborted) {
    try {
      return await start()
    } catch (error) {
      const code = isHoldfastError(error) ? error.code : null
      if (code !== 'storage-busy' && code !== 'timeout') throw error
      journal.write('lib_metric', 'info', { name: 'start', errClass: (error as Error).message })
    }
  }
}
