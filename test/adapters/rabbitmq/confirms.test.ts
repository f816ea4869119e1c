import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { Call, type CallOwner } from '../../../adapters/rabbitmq/call.ts'
import { Confirms, type InFlight } from '../../../adapters/rabbitmq/confirms.ts'
import { CONFIRMED, type SendOutcome } from '../../../src/contract/broker.ts'
import { OutcomeUnknownError } from '../../../src/contract/errors.ts'
import { envelopes, inWords } from './sending-stage.ts'

const owner: CallOwner = { ended: () => undefined, late: () => undefined }
const unknown: SendOutcome = { status: 'unknown', error: new OutcomeUnknownError('nacked', 'x') }

function callOf(count: number, words: string[] = [], more: Partial<CallOwner> = {}): Call {
  const report = (from: number, to: number, outcome: SendOutcome): void => {
    for (let index = from; index < to; index++) {
      words[index] = words[index] === undefined ? inWords(outcome) : 'told twice'
    }
  }
  return new Call(envelopes('t', count), 1_000, report, { ...owner, ...more })
}

/** Books the messages of a call from tag 1 on. */
function booked(count: number, window = 1_000): { confirms: Confirms; call: Call } {
  const confirms = new Confirms(window)
  const call = callOf(count)
  for (let index = 0; index < count; index++) confirms.add(call, index, 10, index)
  return { confirms, call }
}

type Told = [from: number, to: number]

function settled(confirms: Confirms, tag: number, multiple: boolean): Told[] {
  const told: Told[] = []
  confirms.settle(tag, multiple, (_, from, to) => void told.push([from, to]))
  return told
}

describe('the book of a confirm channel', () => {
  it('tells a run of one call at once', () => {
    const { confirms } = booked(10)
    expect(settled(confirms, 4, true)).toEqual([[0, 4]])
    expect(settled(confirms, 6, false)).toEqual([[5, 6]])
    expect(settled(confirms, 0, true)).toEqual([
      [4, 5],
      [6, 10],
    ])
    expect([confirms.unanswered, confirms.bytes, confirms.oldestAt]).toEqual([0, 0, null])
  })

  it('says nothing for tags that are not open: answered before, or never given', () => {
    const { confirms } = booked(3)
    expect(settled(confirms, 2, false)).toEqual([[1, 2]])
    expect(settled(confirms, 2, false)).toEqual([])
    expect(settled(confirms, 99, false)).toEqual([])
    expect(settled(confirms, 99, true)).toEqual([
      [0, 1],
      [2, 3],
    ])
  })

  it('credits every answer to the message it is about, in any order of answers', () => {
    const answer = fc.record({ at: fc.nat(), multiple: fc.boolean(), write: fc.nat(40) })
    fc.assert(
      fc.property(
        fc.array(answer, { maxLength: 300 }),
        fc.integer({ min: 1, max: 64 }),
        (answers, window) => {
          const confirms = new Confirms(window)
          const call = callOf(20_000)
          const open = new Map<number, number>()
          let next = 1
          for (const { at, multiple, write } of answers) {
            for (let n = 0; n < write && open.size < window; n++) {
              expect(confirms.nextTag).toBe(next)
              confirms.add(call, next * 2, 1, next)
              open.set(next, next * 2)
              next++
            }
            const tag = 1 + (at % next)
            const expected = [...open].filter(([one]) => (multiple ? one <= tag : one === tag))
            for (const [one] of expected) open.delete(one)
            const told = settled(confirms, tag, multiple).map(([from]) => from)
            expect(told.toSorted((a, b) => a - b)).toEqual(expected.map(([, index]) => index))
            expect(confirms.unanswered).toBe(open.size)
            expect(confirms.oldestAt).toBe(open.size === 0 ? null : Math.min(...open.keys()))
            expect(confirms.all().map(({ tag: one }) => one)).toEqual([...open.keys()])
          }
        },
      ),
      { numRuns: 100 },
    )
  })

  it('lets others pass one that is never answered, with memory for a window only', () => {
    const confirms = new Confirms(8)
    const call = callOf(30_000)
    for (let index = 0; index < 30_000; index++) {
      confirms.add(call, index, 1, index)
      if (index > 0) expect(settled(confirms, index + 1, false)).toEqual([[index, index + 1]])
    }
    expect(confirms.all().map(({ tag }) => tag)).toEqual([1])
    expect(confirms.oldestAt).toBe(0)
    expect(settled(confirms, 1, false)).toEqual([[0, 1]])
  })

  it('takes all out before it tells, so that whoever is told may write', () => {
    const { confirms, call } = booked(4, 4)
    const told: Told[] = []
    let written = 4
    confirms.settle(4, true, (_, from, to) => {
      told.push([from, to])
      for (let n = 0; n < 4; n++) confirms.add(call, written++, 1, 9)
    })
    expect(told).toEqual([[0, 4]])
    expect(confirms.all().map(({ index }: InFlight) => index)).toEqual([4, 5, 6, 7])
  })

  it('replaces the meaning of an answer for one tag, alone and inside a run', () => {
    const { confirms } = booked(5)
    confirms.insteadOf(3, unknown)
    const told: [number, number, SendOutcome | null][] = []
    confirms.settle(5, true, (_, from, to, instead) => void told.push([from, to, instead]))
    expect(told).toEqual([
      [0, 2, null],
      [2, 3, unknown],
      [3, 5, null],
    ])
  })
})

describe('a call of send', () => {
  it('reports each envelope once, whatever comes later, and tells what came late', () => {
    const words: string[] = []
    const late: number[] = []
    const ended: Call[] = []
    const call = callOf(4, words, {
      late: (_, index) => void late.push(index),
      ended: (one) => void ended.push(one),
    })
    call.wrote(0)
    call.wrote(1)
    call.confirm(0, 1)
    call.onDue()
    call.confirm(0, 4)
    expect(words).toEqual(['confirmed', 'unknown timeout', 'refused not-sent', 'refused not-sent'])
    expect(late).toEqual([0, 1, 2, 3])
    expect(ended).toEqual([call])
  })

  it('marks the confirm of what may have been stored before', () => {
    const words: string[] = []
    const call = callOf(3, words)
    call.wrote(1)
    call.doubt(1)
    call.confirm(0, 3)
    expect(words).toEqual(['confirmed', 'confirmed, perhaps twice', 'confirmed'])
  })

  it('never calls what may have been stored before unsent', () => {
    const words: string[] = []
    const call = callOf(2, words)
    call.wrote(0)
    call.doubt(0)
    call.unwrite(0)
    call.refuseUnwritten({ status: 'confirmed' })
    expect(words).toEqual([undefined, 'confirmed'])
    call.onDue()
    expect(words[0]).toBe('unknown timeout')
  })

  it('tells what was held when it is told to, and only then', () => {
    const words: string[] = []
    const call = callOf(2, words)
    call.hold(1)
    call.end(0, 2, CONFIRMED)
    expect(words).toEqual(['confirmed'])
    call.onDue()
    call.tellHeld(1, unknown)
    call.tellHeld(1, unknown)
    expect(words).toEqual(['confirmed', 'unknown nacked'])
  })
})
