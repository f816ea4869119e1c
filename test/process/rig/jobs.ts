import { allFine } from './goods.ts'
import type { Role, TaskOf } from './task.ts'

type JobOf<R extends Role> = Omit<TaskOf<R>, 'proc' | 'crash' | 'paths'>

/** Names of that many keys. */
export function keys(count: number): readonly string[] {
  return Array.from({ length: count }, (_, index) => `k${index}`)
}

/** A writer of orders, unless told otherwise: 8 keys with 10 items each, 4 to a transaction. */
export function writer(job: Partial<JobOf<'writer'>> = {}): JobOf<'writer'> {
  return {
    role: 'writer',
    busyMs: 5_000,
    producer: 'w',
    keys: keys(8),
    each: 10,
    via: 'outbox',
    perTransaction: 4,
    pauseMs: 5,
    rollBackEvery: 5,
    padBytes: 64,
    oversize: [],
    oversizeBytes: 100_000,
    deadlineMs: 30_000,
    ...job,
  }
}

/** A relay that takes over after a second. */
export function relay(job: Partial<JobOf<'relay'>> = {}): JobOf<'relay'> {
  return {
    role: 'relay',
    busyMs: 5_000,
    leaseMs: 1_000,
    batchSize: 100,
    pollMs: 20,
    attempts: 2,
    maxBodyBytes: 50_000,
    ...job,
  }
}

/** A consumer whose messages come to others after a second. */
export function consumer(job: Partial<JobOf<'consumer'>> = {}): JobOf<'consumer'> {
  return {
    role: 'consumer',
    busyMs: 5_000,
    leaseMs: 1_000,
    concurrency: 4,
    held: 16,
    transactionSize: 4,
    attempts: 4,
    handlerMs: 0,
    fates: allFine,
    ...job,
  }
}

/** Another program that locks a file. */
export function lock(job: Partial<JobOf<'lock'>> & { readonly file: string }): JobOf<'lock'> {
  return {
    role: 'lock',
    busyMs: 0,
    holdMs: [1_000, 1_000],
    pauseMs: 0,
    times: 1,
    seed: 1,
    ...job,
  }
}
