import type { CrashPoints } from '../../src/contract/crash-points.ts'
import type { ClaimResult, Identified, WorkResult } from '../../src/contract/store.ts'
import type { MemoryTransaction } from './transaction.ts'

/** The table of processed messages. */
export const INBOX = 'holdfast_inbox'
/** The table of counted starts. */
export const ATTEMPTS = 'holdfast_attempts'

/** One processed message. */
export interface InboxRow {
  readonly consumer: string
  readonly id: string
  readonly atMs: number
  /** Not pruned until resolved. */
  readonly kept: boolean
}

/** How often handling a message was started. */
export interface AttemptRow {
  readonly started: number
  readonly atMs: number
}

type Work = (tx: MemoryTransaction, fresh: readonly number[]) => Promise<readonly WorkResult[]>

/** The row's key; consumer names have no spaces. */
export function rowName(consumer: string, id: string): string {
  return `${consumer} ${id}`
}

/** One message after the other, each in a savepoint with its row and its effect. */
export async function claimEach(
  tx: MemoryTransaction,
  messages: readonly Identified[],
  work: Work,
  crash: CrashPoints,
): Promise<readonly ClaimResult[]> {
  const results: ClaimResult[] = []
  for (const [index, message] of messages.entries()) {
    tx.begin()
    const claimed = await claim(tx, message)
    if (claimed !== 'fresh') {
      tx.undo()
      results.push(claimed)
      continue
    }
    crash.at('after_inbox_insert')
    const [result] = await work(tx, [index])
    if (result === 'done') tx.keep()
    else tx.undo()
    results.push(result === 'done' ? 'committed' : 'failed')
  }
  return results
}

/** All rows first, then the work for all that are new, then the rows of failed ones are removed. */
export async function claimBatch(
  tx: MemoryTransaction,
  messages: readonly Identified[],
  work: Work,
  crash: CrashPoints,
): Promise<readonly ClaimResult[]> {
  const results: (ClaimResult | 'fresh')[] = []
  const firsts = new Map<string, number>()
  for (const [index, message] of messages.entries()) {
    const name = rowName(message.consumer, message.id)
    const twin = firsts.has(name)
    if (!twin) firsts.set(name, index)
    results.push(twin ? 'duplicate' : await claim(tx, message))
  }
  const fresh = results.flatMap((result, index) => (result === 'fresh' ? [index] : []))
  if (fresh.length === 0) return results as readonly ClaimResult[]
  crash.at('after_inbox_insert')
  const done = await work(tx, fresh)
  for (const [nth, index] of fresh.entries()) {
    const { consumer, id } = messages[index] as Identified
    results[index] = done[nth] === 'done' ? 'committed' : 'failed'
    if (results[index] === 'failed') await tx.delete(INBOX, rowName(consumer, id))
  }
  return settleTwins(messages, results as ClaimResult[], firsts)
}

/** A second copy in the batch is a duplicate only if the first one was done; else it waits its turn. */
function settleTwins(
  messages: readonly Identified[],
  results: ClaimResult[],
  firsts: ReadonlyMap<string, number>,
): readonly ClaimResult[] {
  return results.map((result, index) => {
    const { consumer, id } = messages[index] as Identified
    const first = firsts.get(rowName(consumer, id)) as number
    if (first === index) return result
    return results[first] === 'committed'
      ? 'duplicate'
      : (results[first] as ClaimResult) === 'failed'
        ? 'busy'
        : (results[first] as ClaimResult)
  })
}

/** Inserts the row, waiting for whoever holds it; whether that was possible says what the message is. */
async function claim(
  tx: MemoryTransaction,
  { consumer, id }: Identified,
): Promise<'fresh' | 'duplicate' | 'busy'> {
  const name = rowName(consumer, id)
  if (!(await tx.tryLock(INBOX, name))) return 'busy'
  if (tx.read(INBOX, name) !== undefined) return 'duplicate'
  const row: InboxRow = { consumer, id, atMs: tx.database.nowMs(), kept: false }
  tx.write(INBOX, name, row)
  return 'fresh'
}
