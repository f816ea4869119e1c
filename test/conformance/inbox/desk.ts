import { noCrashes } from '../../../src/contract/crash-points.ts'
import { silent } from '../../../src/contract/events.ts'
import type {
  ClaimResult,
  Identified,
  InboxStore,
  WorkResult,
} from '../../../src/contract/store.ts'
import { sleep } from '../../../src/contract/clock.ts'
import type { Case, Need } from '../case.ts'
import { Limits } from '../limits.ts'
import { actThenEnd, Problems } from '../problems.ts'
import type { InboxDatabase, InboxHarness } from './harness.ts'

/** Work of a case: what it is asked to do with the messages at these indexes. */
export type Work<Tx> = (tx: Tx, fresh: readonly number[]) => Promise<readonly WorkResult[]>

/** The messages of these ids for the consumer, `orders.billing` unless said otherwise. */
export function messages(ids: readonly string[], consumer = 'orders.billing'): Identified[] {
  return ids.map((id) => ({ consumer, id }))
}

/** What a case of the inbox suite works on: one database, open stores, bounded waits. */
export class Desk<Tx> extends Limits {
  readonly database: InboxDatabase<Tx>
  readonly #abort = new AbortController()
  readonly #open: InboxStore<Tx>[] = []

  constructor(harness: InboxHarness<Tx>, database: InboxDatabase<Tx>) {
    super(harness)
    this.database = database
  }

  /** One more open store on the database. */
  async store(): Promise<InboxStore<Tx>> {
    const store = this.database.store()
    this.#open.push(store)
    const { signal } = this.#abort
    const context = { clock: this.clock, crash: noCrashes, emit: silent, signal }
    await this.within('open()', store.open(context))
    return store
  }

  /** Runs the messages; each one that is new leaves its id as an effect and is reported done. */
  run(
    store: InboxStore<Tx>,
    given: readonly Identified[],
    mode: 'each' | 'batch' = 'each',
  ): Promise<readonly ClaimResult[]> {
    return this.runWith(store, given, mode, async (tx, fresh) => {
      for (const index of fresh) await this.database.effect(tx, given[index]!.id)
      return fresh.map(() => 'done')
    })
  }

  runWith(
    store: InboxStore<Tx>,
    given: readonly Identified[],
    mode: 'each' | 'batch',
    work: Work<Tx>,
  ): Promise<readonly ClaimResult[]> {
    return this.within('run()', store.run(given, mode, work))
  }

  /** Runs one message again while another transaction holds its id, as its lane would. */
  async runUntilFree(store: InboxStore<Tx>, given: Identified): Promise<ClaimResult> {
    for (const giveUpAt = this.deadline(); ; await sleep(this.clock, 5)) {
      const [result] = await this.run(store, [given])
      if (result !== 'busy' || this.clock.now() > giveUpAt) return result!
    }
  }

  /** Committed effects, sorted. */
  async effects(): Promise<readonly string[]> {
    return [...(await this.database.effects())].toSorted((one, other) => (one < other ? -1 : 1))
  }

  async end(): Promise<void> {
    const problems = new Problems()
    for (const store of this.#open) {
      await problems.during(() => this.within('close()', store.close()))
    }
    this.#abort.abort(new Error('the case has ended'))
    await problems.during(() => this.within('closing the database', this.database.close()))
    problems.raise()
  }
}

/** Makes a case of the inbox suite: the name is the sentence that has to hold. */
export function inboxCase(
  name: string,
  needs: readonly Need<InboxHarness>[],
  act: (desk: Desk<unknown>) => Promise<void>,
): Case<InboxHarness> {
  const run = async (harness: InboxHarness): Promise<void> => {
    const desk = new Desk(harness, await harness.make())
    await actThenEnd(
      () => act(desk),
      () => desk.end(),
    )
  }
  return { name, needs, run }
}

/** The harness can lose the answer to a commit. */
export const losesCommits: Need<InboxHarness> = {
  what: 'the fault loseCommit',
  met: (harness) => harness.losesCommits === true,
}

/** The stores count starts durably. */
export const countsAttempts: Need<InboxHarness> = {
  what: 'an attempt store',
  met: (harness) => harness.countsAttempts !== false,
}
