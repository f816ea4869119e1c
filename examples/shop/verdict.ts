import type { Findings, Named } from './findings.ts'
import { EXIT } from './usage.ts'

/** The faults a run has to show before it may say that the promise was kept in spite of them. */
export interface Wanted {
  /** Processes that have to be killed; none when everything runs in one. */
  readonly processes: readonly string[]
  readonly kills: number
  readonly outages: number
  /** Restarts of the broker. */
  readonly restarts: number
}

/** For a run in one process. */
export const NO_FAULTS: Wanted = { processes: [], kills: 0, outages: 0, restarts: 0 }

/** What is wrong with a run, in sentences; empty lists: the promise was kept, faults and all. */
export interface Verdict {
  readonly broken: readonly string[]
  readonly notShown: readonly string[]
}

/** Judges a run by what was found. Pure. */
export function judge(findings: Findings, wanted: Wanted): Verdict {
  return { broken: brokenPromises(findings), notShown: missingFaults(findings, wanted) }
}

export function exitCodeOf({ broken, notShown }: Verdict): number {
  if (broken.length > 0) return EXIT.broken
  return notShown.length > 0 ? EXIT.notShown : EXIT.kept
}

function brokenPromises(found: Findings): readonly string[] {
  const { read, accepted, rejected } = found
  const sentences = [
    some(found.chargedTwice, 'charged more than once'),
    !mayStillCome(found) && some(found.lost, 'lost'),
    some(found.strangers, 'delivered without being ordered'),
    some(found.invented, 'charged without being ordered like that'),
    some(found.lateDeliveries, 'delivered after a later order of the same customer'),
    some(found.lateCharges, 'charged after a later order of the same customer'),
    !mayStillCome(found) &&
      some(found.deadMissing, 'refused for ever, but not in the dead letters'),
    some(found.deadUnexpected, 'in the dead letters without having to be'),
    some(found.deadAndCharged, 'in the dead letters and charged'),
    found.parked > 0 && `${found.parked} messages given up by the relay`,
    found.finished &&
      read !== accepted + rejected &&
      `the input has ${read} lines, but ${accepted} were accepted and ${rejected} rejected`,
  ]
  return sentences.filter((one) => one !== false)
}

/** The broker has as many messages as orders are missing: then the run was too short, and nothing shows a loss. */
function mayStillCome({ lost, deadMissing, leftInBroker }: Findings): boolean {
  return lost.count + deadMissing.count <= (leftInBroker ?? 0)
}

function some({ count, first }: Named, what: string): string | false {
  if (count === 0) return false
  return `${count} ${count === 1 ? 'order' : 'orders'} ${what}: ${first.join(', ')}${count > first.length ? ', …' : ''}`
}

function missingFaults(found: Findings, wanted: Wanted): readonly string[] {
  if (found.accepted === 0) return ['nothing was accepted']
  const kills = wanted.processes
    .map((name) => [name, found.kills[name] ?? 0] as const)
    .filter(([, happened]) => happened < wanted.kills)
    .map(([name, happened]) => `${name} was killed ${happened} of ${wanted.kills} times`)
  const sentences = [
    ...kills,
    !found.finished && 'the input was not taken to its end',
    found.outages.length < wanted.outages &&
      ['the broker was never taken away', ...found.outageFailures].join(': '),
    found.restarts.length < wanted.restarts &&
      ['the broker was never restarted', ...found.restartFailures].join(': '),
    (found.leftInBroker ?? 0) > 0 &&
      `${found.leftInBroker} messages are still in the broker: nobody knows what becomes of them`,
    found.retried === 0 && 'no charge failed and was tried again',
    found.hopeless === 0 && 'no charge failed for ever',
  ]
  return sentences.filter((one) => one !== false)
}
