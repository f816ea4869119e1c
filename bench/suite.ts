import type { Figure } from './figure.ts'

/** What a suite is told. */
export interface SuiteContext {
  readonly rounds: number
  readonly warmUps: number
  /** Of a memory case. */
  readonly messages: number
  readonly awayMs: number
  /** On a real disk; removed afterwards. */
  readonly directory: string
  readonly progress: (text: string) => void
}

/** A group of measurements that can be asked for by name. */
export interface Suite {
  readonly name: string
  /** Of its memory case, unless the command line says how many; none without such a case. */
  readonly messages?: number
  /** Rejects with what to do where it cannot run; asked of every suite before the first one runs. */
  readonly check?: () => Promise<void>
  readonly run: (context: SuiteContext) => Promise<readonly Figure[]>
}
