import assert from 'node:assert/strict'

import { check } from '../../../conformance/checker/checker.ts'
import type { Entry, Facts, Operation, Phase } from '../../../conformance/checker/history.ts'
import type { Demands, Expectations } from '../../../conformance/checker/verdict.ts'

/** What a run has to show beside what the checker demands of every run. */
export interface Wanted extends Expectations {
  readonly demands: Demands
}

/** The history of a run within one process, and what becomes of it. */
export class Book {
  readonly entries: Entry[] = []
  /** Messages of which the publisher said that they may be stored twice. */
  readonly marked: Set<string> = new Set<string>()
  /** How often each message is stored, as a queue that nobody disturbed gave it out. */
  readonly copies: Map<string, number> = new Map<string, number>()
  /** Faults that have struck. */
  faults = 0

  write(proc: string, op: Operation, phase: Phase, facts: Facts = {}): void {
    this.entries.push({
      run: 'faults',
      proc,
      pid: process.pid,
      seq: this.entries.length,
      t_mono: Number(process.hrtime.bigint()),
      t_wall: Date.now(),
      op,
      phase,
      ...facts,
    })
  }

  /** A fault that has struck. */
  fault(name: string): void {
    this.faults++
    this.write('faults', 'fault_start', 'ok', { name })
  }

  /** Messages whose publish has not ended. */
  get open(): readonly string[] {
    const open = new Set<string>()
    for (const { op, phase, msgId = '' } of this.entries) {
      if (op !== 'publish') continue
      if (phase === 'invoke') open.add(msgId)
      else open.delete(msgId)
    }
    return [...open]
  }

  count(op: Operation, phase: Phase): number {
    return this.entries.filter((entry) => entry.op === op && entry.phase === phase).length
  }

  /** Fails when the promise was broken, or when the run did not see what it is about. */
  judge(expected: Wanted): void {
    assert.deepEqual(this.open.slice(0, 5), [], `${this.open.length} publishes never ended`)
    const { violations } = check(this.entries, { ordered: false, ...expected })
    const said = violations.map(({ property, text }) => `${property}: ${text}`)
    assert.deepEqual(said, [])
    const secret = [...this.copies].filter(([id, n]) => n > 1 && !this.marked.has(id))
    const shown = secret.slice(0, 5).map(([id, n]) => `${id} is stored ${n} times`)
    assert.deepEqual(shown, [], `${secret.length} duplicates were not marked as possible`)
  }
}
