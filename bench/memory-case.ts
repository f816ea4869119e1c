/** One memory measurement in a process of its own: the case as JSON in, progress and result as messages out. */
import { brokerAway } from './memory-away.ts'
import { steady } from './memory-steady.ts'

/** Many messages, published and consumed. */
export type SteadyCase = { readonly kind: 'steady'; readonly messages: number } & (
  | { readonly through: 'memory' }
  | { readonly through: 'sqlite'; readonly directory: string }
  /** The topic is declared there. */
  | { readonly through: 'rabbitmq'; readonly url: string; readonly prefix: string }
  | { readonly through: 'kafka'; readonly brokers: readonly string[]; readonly prefix: string }
)

/** What a child process is asked to measure. */
export type MemoryCase =
  | SteadyCase
  | { readonly kind: 'away'; readonly whenFull: 'wait' | 'fail'; readonly awayMs: number }

/** Resident memory over many messages. */
export interface SteadyResult {
  readonly kind: 'steady'
  readonly messages: number
  readonly slopeMiB: number
  readonly endMiB: number
  readonly perSecond: number
}

/** Resident memory while the broker was away. */
export interface AwayResult {
  readonly kind: 'away'
  readonly baseMiB: number
  readonly peakMiB: number
  /** How much more the last quarter of the time took than the one before it. */
  readonly growingMiB: number
  /** What the configured buffer allows in all. */
  readonly boundMiB: number
  /** Most messages that waited for their outcome at once. */
  readonly mostWaiting: number
  readonly offeredMiB: number
  /** Messages that got no outcome. */
  readonly missing: number
}

/** What a child process answers. */
export type MemoryResult = SteadyResult | AwayResult

/** Tells the parent how far it is. */
export type Progress = (text: string) => void

async function main(): Promise<void> {
  const one = JSON.parse(process.argv[2] ?? 'null') as MemoryCase
  const progress: Progress = (text) => void process.send?.({ progress: text })
  const result = await (one.kind === 'steady' ? steady(one, progress) : brokerAway(one, progress))
  process.send?.({ result }, () => process.disconnect())
}

await main()
