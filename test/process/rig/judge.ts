import assert from 'node:assert/strict'

import { check } from '../../conformance/checker/checker.ts'
import type { Entry } from '../../conformance/checker/history.ts'
import type { Expectations, Verdict } from '../../conformance/checker/verdict.ts'
import { fateOf, GROUP, type Fates } from './goods.ts'
import { line, Reader } from './reader.ts'
import type { Run } from './run.ts'

/** What a run is held to beside the checker's own expectations. */
export interface Extras {
  /** Which messages fail; those that can never work have to end dead, and no others. */
  readonly fates?: Fates
  /** Messages no broker takes: they have to be parked. */
  readonly oversize?: readonly string[]
}

/** Reasons of dead letters and of parked rows that need no attempts of a handler. */
const permanentReasons = ['schema', 'codec', 'no-id', 'permanent', 'expired', 'too-large']

/** Throws unless the run kept every promise and exercised what it claims. */
export async function judge(run: Run, expected: Expectations & Extras): Promise<Verdict> {
  const reader = await Reader.open(run.paths)
  try {
    const entries = entriesOf(run.history.read(), reader)
    const { fates, oversize, ...rest } = expected
    const verdict = check(entries, {
      inbox: true,
      groups: [GROUP],
      permanentReasons,
      residue: reader.residue(run.workers.some(({ deaths }) => deaths > 0)),
      ...(fates === undefined && oversize === undefined
        ? {}
        : { poison: poisonOf(entries, fates, oversize) }),
      ...rest,
    })
    assert.deepEqual(verdict.violations, [], `${verdict.result}: ${JSON.stringify(verdict.counts)}`)
    return verdict
  } finally {
    reader.close()
  }
}

/** The histories and what the database says: it alone knows what was committed. */
function entriesOf(written: readonly Entry[], reader: Reader): readonly Entry[] {
  const effects = reader.effects()
  const end = written.reduce((last, { t_mono }) => Math.max(last, t_mono), 0)
  const dead = [
    ...reader.deadLetters().map((facts) => line('dlq_seen', end, facts)),
    ...reader
      .parked()
      .map(({ reason = '', ...facts }) =>
        line('dead_seen', end, { ...facts, reason: reason.split(':')[0] ?? '' }),
      ),
  ]
  const acknowledged = reader.isOneFile ? ackedWith(effects, written) : []
  const resolved = resolvedBy(reader.orders(), written)
  return [...written, ...resolved, ...effects, ...acknowledged, ...dead].toSorted(
    (one, other) => one.t_mono - other.t_mono || one.seq - other.seq,
  )
}

/** On one file an effect commits with its acknowledgement: a process killed after it cannot say so. */
function ackedWith(effects: readonly Entry[], written: readonly Entry[]): readonly Entry[] {
  const settled = new Set(
    written.flatMap((one) => (one.op === 'settle' ? [`${one.proc}/${one.delivery}`] : [])),
  )
  return effects
    .filter(({ proc, delivery }) => !settled.has(`${proc}/${delivery}`))
    .map((effect) => ({ ...effect, op: 'settle', outcome: 'ack', seq: effect.seq + 0.5 }))
}

/** Transactions whose end nobody wrote down; and one that is not there although it was promised is lost. */
function resolvedBy(
  orders: ReadonlyMap<string, string>,
  written: readonly Entry[],
): readonly Entry[] {
  const committed = new Set(orders.values())
  const ends = new Map<string, Entry>()
  for (const entry of written) {
    const isEnd = entry.op === 'tx_commit' || entry.op === 'tx_rollback'
    if (isEnd && entry.tx !== undefined) ends.set(entry.tx, entry)
  }
  return [...ends.values()].flatMap((last) => {
    const { tx, proc, op, phase, t_mono } = last
    if (tx === undefined) return []
    const isThere = committed.has(tx)
    if (phase === 'ok') {
      assert.equal(isThere, op === 'tx_commit', `${tx}: ${op} ok, and in the database: ${isThere}`)
      return []
    }
    return [line(isThere ? 'tx_commit' : 'tx_rollback', t_mono, { proc, tx })]
  })
}

/** Everything stored that can never be handled. */
function poisonOf(
  entries: readonly Entry[],
  fates: Fates | undefined,
  oversize: readonly string[] = [],
): readonly string[] {
  const ids = new Set(entries.flatMap(({ op, msgId = '' }) => (op === 'deliver' ? [msgId] : [])))
  const hopeless = [...ids].filter((id) => {
    const fate = fates === undefined ? 'fine' : fateOf(fates, id)
    return fate === 'permanent' || fate === 'killer'
  })
  return [...hopeless, ...oversize]
}

/** How often messages are in the broker beyond once, by id: rows it gave them beyond the first. */
export function publishedAgain(entries: readonly Entry[]): ReadonlyMap<string, number> {
  const found = new Map<string, Set<string>>()
  for (const { op, msgId = '', delivery = '' } of entries) {
    if (op !== 'deliver') continue
    const row = delivery.split('~')[0] ?? ''
    found.set(msgId, (found.get(msgId) ?? new Set()).add(row))
  }
  const again = [...found].filter(([, all]) => all.size > 1)
  return new Map(again.map(([id, all]) => [id, all.size - 1]))
}

/** What the next relay will publish again, while none is at work: the broker has it, and the outbox too. */
export function confirmedAndThere({ reader, history }: Run): ReadonlySet<string> {
  // In this order: what leaves the first list meanwhile is in the second.
  const waiting = reader.waiting()
  const delivered = history.read().flatMap(({ op, msgId }) => (op === 'deliver' ? [msgId] : []))
  const stored = new Set<string | undefined>([...waiting, ...delivered])
  return new Set(reader.pending().filter((id) => stored.has(id)))
}
