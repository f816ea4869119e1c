import type { Got, Ledger, Sent } from './ledger.ts'
import type { Expectations, Property, Violation } from './verdict.ts'

const SHOWN = 5

/** At most a few examples, so that a report of a million messages can be read. */
export function violation(
  property: Property,
  text: string,
  examples: readonly string[],
): Violation {
  const shown = examples.slice(0, SHOWN).join(', ')
  const more = examples.length > SHOWN ? ` and ${examples.length - SHOWN} more` : ''
  return { property, text: `${text}: ${shown}${more}` }
}

function finished(got: Got): boolean {
  return got.settles.some(({ outcome }) => outcome === 'ack')
}

/** C1: what was confirmed is acknowledged in every group, or seen dead. */
export function noLoss(ledger: Ledger, expected: Expectations): readonly Violation[] {
  const dead = new Set(ledger.dead.map(({ msgId, group }) => `${group}/${msgId}`))
  const groups = expected.groups ?? ledger.groups
  // A run in which no group ever got anything has lost everything.
  return (groups.length > 0 ? groups : [undefined]).flatMap((group) => {
    const done = new Set(
      ledger.got
        .filter((got) => got.entry.group === group && finished(got))
        .map(({ entry }) => entry.msgId),
    )
    const lost = [...ledger.sent.values()].filter(
      ({ msgId, fate }) => fate === 'ok' && !done.has(msgId) && !dead.has(`${group}/${msgId}`),
    )
    if (lost.length === 0) return []
    const text = `${lost.length} confirmed messages never finished in ${group === undefined ? 'any group' : `group ${group}`} (${where(lost, ledger)})`
    return [
      violation(
        'C1 no loss',
        text,
        lost.map(({ msgId }) => msgId),
      ),
    ]
  })
}

/** Whether a producer lost its first, its last or some message between: each has other causes. */
function where(lost: readonly Sent[], ledger: Ledger): string {
  const kinds = new Set<string>()
  for (const writer of new Set(lost.map(({ producer, key }) => `${producer}-${key}`))) {
    const mine = [...ledger.sent.values()].filter(
      (one) => `${one.producer}-${one.key}` === writer && one.fate === 'ok',
    )
    const numbers = mine.map(({ n }) => n).toSorted((a, b) => a - b)
    const gone = new Set(lost.filter((one) => mine.includes(one)).map(({ n }) => n))
    if (gone.has(numbers[0]!)) kinds.add('prefix')
    if (gone.has(numbers.at(-1)!)) kinds.add('postfix')
    if (numbers.slice(1, -1).some((n) => gone.has(n))) kinds.add('middle')
  }
  return [...kinds].join(', ')
}

/** C2: nothing arrives that nobody sent, that was refused, or that changed on the way. */
export function noInvention(ledger: Ledger): readonly Violation[] {
  const found: Violation[] = []
  const unknown = ids(ledger.got.filter(({ entry }) => !ledger.sent.has(entry.msgId ?? '')))
  const refused = ids(
    ledger.got.filter(({ entry }) => ledger.sent.get(entry.msgId ?? '')?.fate === 'fail'),
  )
  const changed = ids(
    ledger.got.filter(({ entry }) => {
      const hash = ledger.sent.get(entry.msgId ?? '')?.hash
      return hash !== undefined && entry.hash !== undefined && entry.hash !== hash
    }),
  )
  const property = 'C2 no invention'
  if (unknown.length > 0) found.push(violation(property, 'delivered, never sent', unknown))
  if (refused.length > 0) found.push(violation(property, 'delivered, but refused', refused))
  if (changed.length > 0) found.push(violation(property, 'delivered with other content', changed))
  return found
}

function ids(all: readonly Got[]): readonly string[] {
  return all.map(({ entry }) => String(entry.msgId))
}

/** C6: a delivery is settled once, by the process that got it, and not acknowledged before its effect. */
export function settledOnce(ledger: Ledger): readonly Violation[] {
  const property = 'C6 settle once'
  const twice = ledger.got.filter(({ settles }) => settles.length > 1)
  const never = ledger.got.filter(
    ({ settles, lost, entry }) => settles.length === 0 && !lost && ledger.ended.has(entry.proc),
  )
  const early = ledger.got.filter(
    ({ settles, effect }) =>
      effect !== null && settles.some(({ outcome, seq }) => outcome === 'ack' && seq < effect.seq),
  )
  const found: Violation[] = []
  if (twice.length > 0) found.push(violation(property, 'settled more than once', ids(twice)))
  if (never.length > 0) found.push(violation(property, 'never settled', ids(never)))
  if (early.length > 0)
    found.push(violation(property, 'acknowledged before its effect', ids(early)))
  return found
}

/** C7: no more deliveries than messages, beyond what faults explain. Retries are no duplicates. */
export function boundedDuplicates(ledger: Ledger, expected: Expectations): readonly Violation[] {
  if (expected.duplicates === undefined) return []
  const again = duplicates(ledger)
  if (again.length <= expected.duplicates) return []
  const text = `${again.length} duplicate deliveries, at most ${expected.duplicates} expected`
  return [violation('C7 bounded duplicates', text, again)]
}

/** Messages delivered to a group again with an attempt it had already had. */
export function duplicates(ledger: Ledger): readonly string[] {
  const seen = new Set<string>()
  return ledger.got.flatMap(({ entry }) => {
    const name = `${entry.group}/${entry.msgId}/${entry.attempt ?? 1}`
    if (seen.has(name)) return [String(entry.msgId)]
    seen.add(name)
    return []
  })
}
