import { appendFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { History, HistoryTail, type HistoryEvent } from '../../../examples/shop/history.ts'

describe('history', () => {
  let folder = ''
  let file = ''

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'holdfast-history-'))
    file = join(folder, 'relay.history.ndjson')
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  function read(tail: HistoryTail): readonly HistoryEvent[] {
    const events: HistoryEvent[] = []
    tail.read((event) => events.push(event))
    return events
  }

  it('is appended to by one process after the other', () => {
    for (const proc of ['first', 'second']) {
      const history = new History(file, proc)
      history.write('invoke', { op: 'order', id: 'ö-1', line: 1 })
      history.write('ok', { op: 'order', id: 'ö-1', line: 1 })
      history.close()
    }
    const events = read(new HistoryTail(file))
    expect(events.map(({ proc, seq, phase }) => [proc, seq, phase])).toEqual([
      ['first', 1, 'invoke'],
      ['first', 2, 'ok'],
      ['second', 1, 'invoke'],
      ['second', 2, 'ok'],
    ])
    expect(events[0]).toMatchObject({ op: 'order', id: 'ö-1', pid: process.pid })
    expect(events[1]!.at).toBeGreaterThanOrEqual(events[0]!.at)
  })

  it('is followed while it is written, line by whole line', () => {
    const tail = new HistoryTail(file)
    expect(read(tail)).toEqual([])
    appendFileSync(file, '{"seq":1}\n{"se')
    expect(read(tail)).toEqual([{ seq: 1 }])
    expect(read(tail)).toEqual([])
    appendFileSync(file, 'q":2}\n')
    expect(read(tail)).toEqual([{ seq: 2 }])
    expect(tail.torn).toBe(0)
  })

  it('counts a line that is not whole and reads on', () => {
    appendFileSync(file, '{"seq":1}\n{"seq":{"seq":2}\n{"seq":3}\n')
    const tail = new HistoryTail(file)
    expect(read(tail)).toEqual([{ seq: 1 }, { seq: 3 }])
    expect(tail.torn).toBe(1)
  })
})
