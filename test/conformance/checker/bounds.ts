import { violation } from './delivering.ts'
import type { Ledger } from './ledger.ts'
import type { Expectations, Violation } from './verdict.ts'

const NS_PER_MS = 1e6

/** C8: after the faults everything arrives in time, and no publish stays unanswered beyond its deadline. */
export function alive(ledger: Ledger, expected: Expectations): readonly Violation[] {
  return [...drained(ledger, expected), ...answered(ledger, expected)]
}

function drained(ledger: Ledger, { drainedWithinMs }: Expectations): readonly Violation[] {
  if (drainedWithinMs === undefined) return []
  const starts = [
    ...ledger.entries.filter(({ op }) => op === 'fault_stop').map(({ t_mono }) => t_mono),
    ...[...ledger.sent.values()].map(({ endedAt, invokedAt }) => endedAt ?? invokedAt),
  ]
  const firsts = new Map<string, number>()
  for (const { entry } of ledger.got) {
    const name = `${entry.group}/${entry.msgId}`
    if (!firsts.has(name)) firsts.set(name, entry.t_mono)
  }
  const from = starts.reduce((a, b) => Math.max(a, b), 0)
  const late = [...firsts].filter(([, at]) => (at - from) / NS_PER_MS > drainedWithinMs)
  if (late.length === 0) return []
  const text = `first deliveries later than ${drainedWithinMs} ms after the last fault or publish`
  return [
    violation(
      'C8 liveness',
      text,
      late.map(([name]) => name),
    ),
  ]
}

function answered(ledger: Ledger, { publishWithinMs }: Expectations): readonly Violation[] {
  if (publishWithinMs === undefined) return []
  const late = [...ledger.sent.values()].filter(
    ({ invokedAt, endedAt }) =>
      endedAt !== null && (endedAt - invokedAt) / NS_PER_MS > publishWithinMs,
  )
  if (late.length === 0) return []
  const text = `publishes answered later than ${publishWithinMs} ms`
  return [
    violation(
      'C8 liveness',
      text,
      late.map(({ msgId }) => msgId),
    ),
  ]
}

/** C9: nothing is left. */
export function noResidue(_: Ledger, { residue = {} }: Expectations): readonly Violation[] {
  const left = Object.entries(residue).filter(([, count]) => count !== 0)
  if (left.length === 0) return []
  return [
    violation(
      'C9 residue',
      'left over',
      left.map(([name, count]) => `${name} ${count}`),
    ),
  ]
}

/** C10: no measured value was ever over its bound. */
export function bounded(ledger: Ledger, { bounds = {} }: Expectations): readonly Violation[] {
  const over = ledger.entries.filter(
    ({ op, name = '', value = 0 }) => op === 'lib_metric' && value > (bounds[name] ?? Infinity),
  )
  if (over.length === 0) return []
  const shown = over.map(({ name, value }) => `${name} ${value} > ${bounds[name ?? '']}`)
  return [violation('C10 resources', 'over its bound', shown)]
}

/** C11: the library's counters say what the history says. */
export function honestMetrics(
  ledger: Ledger,
  { metrics = {} }: Expectations,
): readonly Violation[] {
  const settled = (outcome: string): number =>
    ledger.got.filter(({ settles }) => settles.some((one) => one.outcome === outcome)).length
  const truth = {
    published: [...ledger.sent.values()].filter(({ fate }) => fate === 'ok').length,
    acked: settled('ack'),
    retried: settled('retry'),
    dead: settled('dead'),
  }
  const wrong = Object.entries(metrics).filter(
    ([name, value]) => value !== truth[name as keyof typeof truth],
  )
  if (wrong.length === 0) return []
  const shown = wrong.map(
    ([name, value]) => `${name} ${value}, history ${truth[name as keyof typeof truth]}`,
  )
  return [violation('C11 honest metrics', 'counters differ', shown)]
}
