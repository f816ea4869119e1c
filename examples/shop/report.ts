import type { Away, Findings } from './findings.ts'
import { REJECTIONS_KEPT } from './tables.ts'
import type { Verdict } from './verdict.ts'

/** One line of the table. */
type Line = readonly [name: string, value: number | string, note: string]

/** The table that ends a run, and what is to be said about it. */
export function reportText(findings: Findings, verdict: Verdict, seconds: number): string {
  const lines = [...numbers(findings), ...faults(findings), ['time', `${seconds.toFixed(1)} s`, '']]
  const table = (lines as Line[]).map(([name, value, note]) =>
    `${name.padEnd(16)}${grouped(value).padStart(12)}   ${note}`.trimEnd(),
  )
  return [...rejected(findings), '', ...table, '', ...conclusion(verdict)].join('\n')
}

function numbers(found: Findings): readonly Line[] {
  const { handled, duplicates } = found.redelivered
  const late = found.lateDeliveries.count + found.lateCharges.count
  return [
    ['read', found.read, 'lines that are not blank'],
    ['rejected', found.rejected, ''],
    ['accepted', found.accepted, 'stored with their message in one transaction'],
    ['published', found.published, notPublished(found)],
    ['delivered', found.delivered, ''],
    [
      'redelivered',
      handled + duplicates,
      `${handled} handled again, ${duplicates} known to the inbox`,
    ],
    ['charged', found.charged, `${found.retried} of them after a failed attempt`],
    ['charged twice', found.chargedTwice.count, 'must be 0'],
    ['lost', found.lost.count, 'must be 0'],
    ['out of order', late, 'must be 0: first deliveries and charges of each customer'],
    ['dead-lettered', found.dead, deadNote(found)],
    ...(found.leftInBroker === null
      ? []
      : [['left in broker', found.leftInBroker, 'must be 0'] as const]),
  ]
}

function notPublished({ waiting, parked }: Findings): string {
  return waiting + parked === 0 ? '' : `${waiting} still in the outbox, ${parked} given up`
}

function deadNote(found: Findings): string {
  const reasons = Object.entries(found.deadReasons).map(([reason, n]) => `${reason} ${n}`)
  return [`must be ${found.hopeless}`, ...reasons].join('; ')
}

function faults(found: Findings): readonly Line[] {
  const kills = Object.entries(found.kills).toSorted(([a], [b]) => (a < b ? -1 : 1))
  const crashes = Object.entries(found.crashes).map(([name, n]) => `${name} ${n}`)
  return [
    ['kills', sum(found.kills), kills.map(([name, n]) => `${name} ${n}`).join(', ')],
    ['outages', found.outages.length, awayNote(found.outages)],
    ...(found.restarts.length === 0
      ? []
      : [['restarts', found.restarts.length, awayNote(found.restarts)] as const]),
    ...(crashes.length === 0
      ? []
      : [['crashes', sum(found.crashes), `nobody asked for: ${crashes.join(', ')}`] as const]),
    ...(found.torn === 0 ? [] : [['torn', found.torn, 'lines of the histories'] as const]),
  ]
}

function awayNote(aways: readonly Away[]): string {
  const notes = aways.map(({ ms, acceptedMeanwhile }) => {
    return `${(ms / 1_000).toFixed(1)} s, ${acceptedMeanwhile} orders accepted meanwhile`
  })
  return notes.join('; ')
}

function rejected({ rejected: all, rejections }: Findings): readonly string[] {
  const lines = rejections.map(({ line, reason }) => `rejected line ${line}: ${reason}`)
  const more = all - rejections.length
  if (more > 0) lines.push(`… and ${more} more (the first ${REJECTIONS_KEPT} are shown)`)
  return lines
}

function conclusion({ broken, notShown }: Verdict): readonly string[] {
  if (broken.length > 0) return ['The promise was BROKEN:', ...broken.map((one) => `  ${one}`)]
  if (notShown.length === 0) return ['The promise was kept.']
  const reasons = notShown.map((one) => `  ${one}`)
  return ['Nothing was broken, but this run does not show that the promise is kept:', ...reasons]
}

function sum(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((total, one) => total + one, 0)
}

/** Thousands apart, as in 5 000. */
export function grouped(value: number | string): string {
  return typeof value === 'string' ? value : String(value).replaceAll(/\B(?=(\d{3})+$)/g, ' ')
}
