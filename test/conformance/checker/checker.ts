import { alive, bounded, honestMetrics, noResidue } from './bounds.ts'
import {
  boundedDuplicates,
  duplicates,
  noInvention,
  noLoss,
  settledOnce,
  violation,
} from './delivering.ts'
import { effectOnce, honestDead, inOrder } from './effecting.ts'
import type { Entry } from './history.ts'
import { ledgerOf, type Ledger } from './ledger.ts'
import type { Demands, Expectations, Verdict, Violation } from './verdict.ts'

const properties: readonly ((ledger: Ledger, expected: Expectations) => readonly Violation[])[] = [
  noLoss,
  noInvention,
  effectOnce,
  inOrder,
  honestDead,
  settledOnce,
  boundedDuplicates,
  alive,
  noResidue,
  bounded,
  honestMetrics,
]

/**
 * Judges a history. A run that did not exercise what it demands is `invalid`, not passed; one that
 * broke a property is `fail`, whatever it exercised.
 */
export function check(entries: readonly Entry[], expected: Expectations = {}): Verdict {
  const ledger = ledgerOf(entries)
  const counts = count(ledger)
  const broken = properties.flatMap((property) => property(ledger, expected))
  const vacuous = notVacuous(counts, expected.demands ?? {})
  const result = broken.length > 0 ? 'fail' : vacuous.length > 0 ? 'invalid' : 'pass'
  return { result, violations: [...broken, ...vacuous], counts }
}

function count(ledger: Ledger): Required<Demands> {
  const fates = [...ledger.sent.values()].map(({ fate }) => fate)
  const processes = new Set(ledger.entries.map(({ proc }) => proc))
  return {
    published: fates.filter((fate) => fate === 'ok').length,
    delivered: ledger.got.length,
    redelivered: ledger.got.filter(({ entry }) => entry.redelivered === true).length,
    duplicates: duplicates(ledger).length,
    unknown: fates.filter((fate) => fate === 'info').length,
    refused: fates.filter((fate) => fate === 'fail').length,
    dead: ledger.dead.length,
    faults: ledger.entries.filter(({ op }) => op === 'fault_start').length,
    killed: [...processes].filter((proc) => !ledger.ended.has(proc)).length,
  }
}

/** C12: what the run claims to test has happened. */
function notVacuous(counts: Required<Demands>, demands: Demands): readonly Violation[] {
  const short = Object.entries(demands).filter(
    ([name, least]) => counts[name as keyof Demands] < Number(least),
  )
  if (short.length === 0) return []
  const shown = short.map(([name, least]) => `${name} ${counts[name as keyof Demands]} < ${least}`)
  return [violation('C12 not vacuous', 'the run exercised too little', shown)]
}
