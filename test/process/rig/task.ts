import type { CrashPoint } from '../../../src/contract/crash-points.ts'
import type { Fates } from './goods.ts'

/** Where a run keeps what its processes share. */
export interface Paths {
  /** The application's tables, the outbox and the inbox. */
  readonly app: string
  /** The broker; in some runs the same file. */
  readonly broker: string
  /** Lines of all processes. */
  readonly history: string
}

/** Strikes when the process visits `point` for the `visit`-th time: 'kill' is SIGKILL, 'stop' SIGSTOP. */
export interface CrashPlan {
  readonly point: CrashPoint
  readonly visit: number
  readonly action: 'kill' | 'stop'
}

/** What every process is told. */
interface Common {
  /** Its name in the history; another one after each restart. */
  readonly proc: string
  readonly paths: Paths
  readonly crash: CrashPlan | null
  /** How long a lock of another process is waited for. */
  readonly busyMs: number
}

/** Writes business rows and messages, `each` items per key. */
export interface WriterTask extends Common {
  readonly role: 'writer'
  readonly producer: string
  readonly keys: readonly string[]
  readonly each: number
  /** 'outbox': in one transaction with the business row. 'broker': straight to the broker. */
  readonly via: 'outbox' | 'broker'
  readonly perTransaction: number
  /** Between transactions. */
  readonly pauseMs: number
  /** Every so many transactions one more is rolled back on purpose; 0: none. */
  readonly rollBackEvery: number
  readonly padBytes: number
  /** Ids whose body is `oversizeBytes` long instead. */
  readonly oversize: readonly string[]
  readonly oversizeBytes: number
  /** Of a publish straight to the broker. */
  readonly deadlineMs: number
}

/** Moves the outbox to the broker. */
export interface RelayTask extends Common {
  readonly role: 'relay'
  readonly leaseMs: number
  readonly batchSize: number
  readonly pollMs: number
  /** Tries before a row is parked. */
  readonly attempts: number
  readonly maxBodyBytes: number
}

/** Handles messages; each effect is a row. */
export interface ConsumerTask extends Common {
  readonly role: 'consumer'
  readonly leaseMs: number
  readonly concurrency: number
  readonly held: number
  readonly transactionSize: number
  readonly attempts: number
  /** How long a handler takes. */
  readonly handlerMs: number
  readonly fates: Fates
}

/** Takes a file's write lock, by turns or once, without the library. */
export interface LockTask extends Common {
  readonly role: 'lock'
  readonly file: string
  /** Each hold takes between these many milliseconds. */
  readonly holdMs: readonly [least: number, most: number]
  readonly pauseMs: number
  /** How many holds; 0: until told to stop. */
  readonly times: number
  readonly seed: number
}

/** A whole application in one process whose broker goes away and comes back. */
export interface AwayTask extends Common {
  readonly role: 'away'
  readonly warmUpMs: number
  readonly awayMs: number
  /** Messages offered, half of them straight to the broker and half through the outbox. */
  readonly perSecond: number
  readonly padBytes: number
  /** Messages the publisher may have outstanding. */
  readonly buffer: number
}

/** What a child process has to do. */
export type Task = WriterTask | RelayTask | ConsumerTask | LockTask | AwayTask

/** Name of a process's kind. */
export type Role = Task['role']

/** The task of one kind. */
export type TaskOf<R extends Role> = Extract<Task, { role: R }>
