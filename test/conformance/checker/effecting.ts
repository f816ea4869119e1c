import { violation } from './delivering.ts'
import type { Entry } from './history.ts'
import type { Ledger } from './ledger.ts'
import type { Expectations, Violation } from './verdict.ts'

const PERMANENT = ['schema', 'codec', 'no-id', 'permanent', 'expired']

/** C3: with an inbox a finished message has one effect and a dead one none; without, at least one. */
export function effectOnce(ledger: Ledger, expected: Expectations): readonly Violation[] {
  // Histories of runs below the handlers have no effects at all.
  if (ledger.effects.length === 0 && expected.inbox !== true) return []
  const counts = new Map<string, number>()
  for (const { group, msgId } of ledger.effects) {
    counts.set(`${group}/${msgId}`, (counts.get(`${group}/${msgId}`) ?? 0) + 1)
  }
  const dead = new Set(ledger.dead.map(({ group, msgId }) => `${group}/${msgId}`))
  const finished = new Set(
    ledger.got
      .filter(({ settles }) => settles.some(({ outcome }) => outcome === 'ack'))
      .map(({ entry }) => `${entry.group}/${entry.msgId}`),
  )
  const none = [...finished].filter((name) => !counts.has(name) && !dead.has(name))
  const many = [...counts].filter(([, count]) => count > 1).map(([name]) => name)
  const found: Violation[] = []
  const property = 'C3 effect once'
  if (none.length > 0) found.push(violation(property, 'acknowledged without an effect', none))
  if (expected.inbox === true && many.length > 0) {
    found.push(violation(property, 'more than one effect', many))
  }
  return found
}

/** C5: dead letters have a reason that is true, had no effect, and are the ones expected. */
export function honestDead(ledger: Ledger, expected: Expectations): readonly Violation[] {
  const property = 'C5 honest dead letters'
  const found: Violation[] = []
  const effects = new Set(ledger.effects.map(({ group, msgId }) => `${group}/${msgId}`))
  const mute = ledger.dead.filter(({ reason }) => reason === undefined || reason === '')
  const early = ledger.dead.filter((entry) => tooEarly(entry, expected))
  const alive = ledger.dead.filter(({ group, msgId }) => effects.has(`${group}/${msgId}`))
  if (mute.length > 0) found.push(violation(property, 'without a reason', ids(mute)))
  if (early.length > 0)
    found.push(violation(property, 'before its attempts were spent', ids(early)))
  if (alive.length > 0) found.push(violation(property, 'although it had its effect', ids(alive)))
  if (expected.poison !== undefined) {
    const dead = new Set(ids(ledger.dead))
    const spared = expected.poison.filter((id) => !dead.has(id))
    const innocent = [...dead].filter((id) => !expected.poison?.includes(id))
    if (spared.length > 0) found.push(violation(property, 'poison that is not dead', spared))
    if (innocent.length > 0) found.push(violation(property, 'dead without being poison', innocent))
  }
  return found
}

function tooEarly({ reason, attempt }: Entry, expected: Expectations): boolean {
  if (expected.attemptLimit === undefined) return false
  if ((expected.permanentReasons ?? PERMANENT).includes(reason ?? '')) return false
  return (attempt ?? 0) < expected.attemptLimit
}

function ids(entries: readonly Entry[]): readonly string[] {
  return entries.map(({ msgId }) => String(msgId))
}

/** C4: first deliveries and effects of a key rise; what is missing between them is dead or was not confirmed. */
export function inOrder(ledger: Ledger, expected: Expectations): readonly Violation[] {
  if (expected.ordered === false) return []
  const deliveries = ledger.got.map(({ entry }) => entry)
  return [
    ...rising(ledger, deliveries, 'first deliveries'),
    ...rising(ledger, ledger.effects, 'effects'),
  ]
}

function rising(ledger: Ledger, entries: readonly Entry[], what: string): readonly Violation[] {
  const seen = new Set<string>()
  const reached = new Map<string, number>()
  const swapped: string[] = []
  const skipped: string[] = []
  for (const { group, msgId = '' } of entries) {
    const sent = ledger.sent.get(msgId)
    if (sent === undefined || sent.key === '' || seen.has(`${group}/${msgId}`)) continue
    seen.add(`${group}/${msgId}`)
    const lane = `${group}/${sent.producer}-${sent.key}`
    const last = reached.get(lane) ?? -1
    if (sent.n <= last) swapped.push(msgId)
    else {
      for (let n = last + 1; n < sent.n; n++) skipped.push(...missing(ledger, group, sent, n))
      reached.set(lane, sent.n)
    }
  }
  const found: Violation[] = []
  if (swapped.length > 0) found.push(violation('C4 order', `${what} after a later one`, swapped))
  if (swapped.length === 0 && skipped.length > 0) {
    found.push(violation('C4 order', `${what} passed over`, skipped))
  }
  return found
}

/** The n-th message of the lane, unless a reason is known why it did not come. */
function missing(
  ledger: Ledger,
  group: string | undefined,
  { producer, key }: { producer: string; key: string },
  n: number,
): readonly string[] {
  const msgId = `${producer}-${key}-${n}`
  if (ledger.sent.get(msgId)?.fate !== 'ok') return []
  const dead = ledger.dead.some((entry) => entry.msgId === msgId && entry.group === group)
  return dead ? [] : [msgId]
}
