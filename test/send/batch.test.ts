import { describe, expect, it } from 'vitest'

import { BufferFullError } from '../../src/contract/errors.ts'
import type { Bounds } from '../../src/send/deliver.ts'
import { type Ended, Stage } from './stage.ts'

function bounded(bounds: Partial<Bounds>): Stage {
  const all: Bounds = { messages: 3, bytes: 1_000, whenFull: 'wait', waitMs: 1_000, ...bounds }
  return new Stage({ bounds: all })
}

async function sendAll(stage: Stage, ...ids: string[]): Promise<Ended[]> {
  return (await Promise.all(ids.map((id) => stage.send(id)))).map(({ ended }) => ended)
}

describe('the accumulator', () => {
  it('hands over everything of one turn in one send', async () => {
    const stage = bounded({ messages: 100 })
    await sendAll(stage, 'a', 'b', 'c')
    await sendAll(stage, 'd')
    expect(stage.broker.sends.map(({ ids }) => ids)).toEqual([['a', 'b', 'c'], ['d']])
  })

  it('bounds what is outstanding, sent or not, and lets the others wait in order', async () => {
    const stage = bounded({})
    await sendAll(stage, 'a', 'b', 'c', 'd', 'e')
    expect(stage.broker.sends.map(({ ids }) => ids)).toEqual([['a', 'b', 'c']])
    expect(stage.dispatcher.outstanding).toBe(5)
    stage.broker.last.confirm(1, 2)
    await stage.clock.settle()
    expect(stage.broker.last.ids).toEqual(['d'])
    stage.broker.sends[0]?.confirm(0, 1)
    await stage.clock.settle()
    expect(stage.broker.last.ids).toEqual(['e'])
  })

  it('bounds the bytes too', async () => {
    const stage = bounded({ messages: 100, bytes: 250 })
    const body = new Uint8Array(100)
    for (const id of ['a', 'b', 'c']) await stage.send(id, { body })
    expect(stage.broker.sends.flatMap(({ ids }) => ids)).toEqual(['a', 'b'])
    stage.broker.sends[0]?.confirm()
    await stage.clock.settle()
    expect(stage.broker.last.ids).toEqual(['c'])
  })

  it('takes a message larger than all its room when it is empty', async () => {
    const stage = bounded({ bytes: 10 })
    await stage.send('a', { body: new Uint8Array(100) })
    expect(stage.broker.last.ids).toEqual(['a'])
  })

  it('does not let small ones overtake a big one that waits for room', async () => {
    const stage = bounded({ messages: 100, bytes: 250 })
    await stage.send('a', { body: new Uint8Array(200) })
    await stage.send('big', { body: new Uint8Array(100), to: 'payments' })
    await stage.send('small', { body: new Uint8Array(10), to: 'notes' })
    expect(stage.broker.sends.flatMap(({ ids }) => ids)).toEqual(['a'])
    stage.broker.last.confirm()
    await stage.clock.settle()
    expect(stage.broker.last.ids).toEqual(['big', 'small'])
  })

  it('ends waiting for room after its time with an error that has the figures', async () => {
    const stage = bounded({})
    const ends = await sendAll(stage, 'a', 'b', 'c', 'd')
    await stage.clock.advance(1_000)
    const { error, atMs } = ends[3] as Ended
    expect(error).toBeInstanceOf(BufferFullError)
    expect(error).toMatchObject({ code: 'buffer-full', retryable: true, messageId: 'd' })
    expect(error?.message).toContain('the buffer is full (3 of 3 messages')
    expect(atMs).toBe(1_000)
    expect(stage.broker.sends).toHaveLength(1)
  })

  it('ends waiting for room at the deadline when that is earlier', async () => {
    const stage = bounded({})
    await sendAll(stage, 'a', 'b', 'c')
    const { ended } = await stage.send('d', { deadline: 300 })
    await stage.clock.advance(300)
    expect(ended).toMatchObject({ status: 'BufferFullError buffer-full', atMs: 300 })
  })

  it('ends waiting for room with its signal', async () => {
    const stage = bounded({})
    await sendAll(stage, 'a', 'b', 'c')
    const stop = new AbortController()
    const { ended } = await stage.send('d', { signal: stop.signal })
    const { ended: next } = await stage.send('e')
    stop.abort(new Error('no more'))
    stage.broker.last.confirm(0, 1)
    await stage.clock.settle()
    expect(ended.status).toBe('PublishRefusedError aborted')
    expect(stage.broker.last.ids).toEqual(['e'])
    expect(next.status).toBe('open')
  })

  it('gives one that waited its whole deadline once it has room', async () => {
    const stage = bounded({})
    await sendAll(stage, 'a', 'b', 'c')
    const { ended } = await stage.send('d', { deadline: 5_000 })
    await stage.clock.advance(500)
    stage.broker.last.confirm()
    await stage.clock.advance(4_499)
    expect(ended.status).toBe('open')
    await stage.clock.advance(1)
    expect(ended).toMatchObject({ status: 'OutcomeUnknownError timeout', atMs: 5_000 })
  })

  it('fails at once where the option says so', async () => {
    const stage = bounded({ whenFull: 'fail' })
    const ends = await sendAll(stage, 'a', 'b', 'c', 'd')
    expect(ends[3]?.status).toBe('BufferFullError buffer-full')
    expect(ends[3]?.error?.message).toContain('whenFull is "fail"')
  })

  it('bounds those that wait, too, so that nobody who does not await fills the memory', async () => {
    const stage = bounded({})
    const ends = await sendAll(stage, ...'a b c d e f g h'.split(' '))
    expect(ends.map(({ status }) => status)).toEqual([
      ...Array.from({ length: 6 }, () => 'open'),
      'BufferFullError buffer-full',
      'BufferFullError buffer-full',
    ])
  })

  it('refuses those that wait when it closes', async () => {
    const stage = bounded({})
    const ends = await sendAll(stage, 'a', 'b', 'c', 'd')
    expect(await stage.leakedTimers()).toBe(0)
    expect(ends.map(({ status }) => status)).toEqual([
      'OutcomeUnknownError unanswered',
      'OutcomeUnknownError unanswered',
      'OutcomeUnknownError unanswered',
      'PublishRefusedError not-sent',
    ])
    expect(stage.broker.sends).toHaveLength(1)
  })
})
