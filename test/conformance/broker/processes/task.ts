import type { SecondProcess } from '../harness.ts'

/** What is published: `n` is dense from 0 per producer and key. */
export interface Item {
  readonly key: string
  readonly n: number
}

/** What the other process has to do. */
export type Task = {
  readonly broker: SecondProcess
  /** File it appends its history to. */
  readonly history: string
  /** Its name in the history. */
  readonly proc: string
  readonly topic: string
  readonly group: string
} & (
  | { readonly role: 'finish'; readonly count: number }
  | { readonly role: 'publish'; readonly keys: readonly string[]; readonly each: number }
  | { readonly role: 'consume'; readonly dieAfter: number | null }
)

/** True for what a parent of the same version wrote. */
export function isTask(value: unknown): value is Task {
  return typeof value === 'object' && value !== null && 'role' in value && 'broker' in value
}
