import type { Entry } from './history.ts'

/** One message as its producer knows it. */
export interface Sent {
  readonly msgId: string
  readonly producer: string
  readonly key: string
  readonly n: number
  readonly hash: string | undefined
  readonly invokedAt: number
  endedAt: number | null
  /** `ok`: confirmed or committed. `fail`: certainly not stored. `info`: may be stored. */
  fate: 'ok' | 'fail' | 'info'
}

/** One delivery and how it ended. */
export interface Got {
  readonly entry: Entry
  readonly settles: Entry[]
  /** Its effect, if it made one. */
  effect: Entry | null
  lost: boolean
}

/** The histories of all processes, sorted into what the properties are about. */
export interface Ledger {
  readonly entries: readonly Entry[]
  readonly sent: ReadonlyMap<string, Sent>
  readonly got: readonly Got[]
  readonly effects: readonly Entry[]
  /** Entries that saw the message as a dead letter or in a dead table. */
  readonly dead: readonly Entry[]
  readonly groups: readonly string[]
  /** Processes that ended in order; the others were killed. */
  readonly ended: ReadonlySet<string>
}

/** Reads the entries once, in order. Three-valued: what was begun and not answered is unknown. */
export function ledgerOf(entries: readonly Entry[]): Ledger {
  const sent = new Map<string, Sent>()
  const got = new Map<string, Got>()
  const dead: Entry[] = []
  const effects: Entry[] = []
  const groups = new Set<string>()
  const ended = new Set<string>()
  const transactions = transactionFates(entries)
  for (const entry of entries) {
    if (entry.group !== undefined) groups.add(entry.group)
    switch (entry.op) {
      case 'publish':
        recordPublish(sent, entry)
        break
      case 'enqueue':
        recordEnqueue(sent, entry, transactions)
        break
      case 'deliver':
        got.set(deliveryKey(entry), { entry, settles: [], effect: null, lost: false })
        break
      case 'settle':
        got.get(deliveryKey(entry))?.settles.push(entry)
        break
      case 'effect':
        effects.push(entry)
        recordEffect(got, entry)
        break
      case 'source_lost':
        recordLoss(got, entry)
        break
      case 'dlq_seen':
      case 'dead_seen':
        dead.push(entry)
        break
      case 'process_end':
        ended.add(entry.proc)
        break
      default:
    }
  }
  return { entries, sent, got: [...got.values()], effects, dead, groups: [...groups], ended }
}

function deliveryKey({ proc, delivery }: Entry): string {
  return `${proc}/${delivery}`
}

function recordPublish(sent: Map<string, Sent>, entry: Entry): void {
  if (entry.msgId === undefined) return
  const known = sent.get(entry.msgId)
  if (known === undefined) sent.set(entry.msgId, newSent(entry, 'info'))
  else if (entry.phase !== 'invoke') end(known, entry, entry.phase)
}

/** A message sent twice with different ends: it counts as stored if one of them says so. */
function end(sent: Sent, { t_mono }: Entry, fate: 'ok' | 'fail' | 'info'): void {
  sent.endedAt = t_mono
  if (sent.fate !== 'ok') sent.fate = fate
}

function newSent(entry: Entry, fate: Sent['fate']): Sent {
  const { msgId = '', producer = '', key = '', n = -1, hash, t_mono } = entry
  return { msgId, producer, key, n, hash, invokedAt: t_mono, endedAt: null, fate }
}

function recordEnqueue(
  sent: Map<string, Sent>,
  entry: Entry,
  transactions: ReadonlyMap<string, Entry>,
): void {
  if (entry.phase !== 'invoke' || entry.msgId === undefined) return
  const last = transactions.get(`${entry.proc}/${entry.tx}`)
  const row = newSent(entry, 'info')
  if (last !== undefined) {
    row.endedAt = last.t_mono
    row.fate = last.op === 'tx_rollback' ? 'fail' : last.phase === 'invoke' ? 'info' : last.phase
  }
  sent.set(entry.msgId, row)
}

/** The last word about each transaction: a later one resolves an unknown commit. */
function transactionFates(entries: readonly Entry[]): ReadonlyMap<string, Entry> {
  const fates = new Map<string, Entry>()
  for (const entry of entries) {
    if (entry.op === 'tx_commit' || entry.op === 'tx_rollback') {
      fates.set(`${entry.proc}/${entry.tx}`, entry)
    }
  }
  return fates
}

function recordEffect(got: ReadonlyMap<string, Got>, entry: Entry): void {
  const delivery = got.get(deliveryKey(entry))
  if (delivery !== undefined) delivery.effect = entry
}

/** Everything the process held of the group and has not settled was taken from it. */
function recordLoss(got: ReadonlyMap<string, Got>, { proc, group }: Entry): void {
  for (const one of got.values()) {
    if (one.entry.proc === proc && one.entry.group === group && one.settles.length === 0) {
      one.lost = true
    }
  }
}
