import { describe, expect, it } from 'vitest'

import { Stage } from './stage.ts'

describe('the deadline', () => {
  it('ends a send that the broker never answers, and the broker is given an earlier one', async () => {
    const stage = new Stage()
    const { ended } = await stage.send('a', { deadline: 5_000 })
    expect(stage.broker.last.deadline).toBe(4_900)
    await stage.clock.advance(4_999)
    expect(ended.status).toBe('open')
    await stage.clock.advance(1)
    expect(ended).toMatchObject({ status: 'OutcomeUnknownError timeout', atMs: 5_000 })
  })

  it('is 30 s by default', async () => {
    const stage = new Stage()
    const { ended } = await stage.send('a')
    await stage.clock.advance(30_000)
    expect(ended).toMatchObject({ status: 'OutcomeUnknownError timeout', atMs: 30_000 })
  })

  it('refuses what could never be handed over, because the broker never opened', async () => {
    const stage = new Stage()
    stage.broker.opening = () => new Promise(() => undefined)
    const { ended } = await stage.send('a', { deadline: 2_000 })
    await stage.clock.advance(2_000)
    expect(ended).toMatchObject({ status: 'PublishRefusedError not-sent', atMs: 2_000 })
    expect(ended.error).toMatchObject({ retryable: true, attempts: 0 })
    expect(stage.broker.sends).toEqual([])
  })

  it('ends many on one timer, each at its own instant', async () => {
    const stage = new Stage()
    const ends = []
    for (let n = 0; n < 50; n++) {
      ends.push((await stage.send(`m${n}`, { deadline: 1_000 + n * 10 })).ended)
    }
    expect(stage.clock.timers).toBe(1)
    await stage.clock.advance(2_000)
    expect(ends.map(({ atMs }) => atMs)).toEqual(ends.map((_end, n) => 1_000 + n * 10))
  })

  it('that is short does not shorten the time of others in the same turn', async () => {
    const stage = new Stage()
    await Promise.all([
      stage.send('short', { deadline: 100 }),
      stage.send('long', { deadline: 30_000 }),
      stage.send('same', { deadline: 30_000 }),
    ])
    expect(stage.broker.sends.map(({ ids, deadline }) => [ids, deadline])).toEqual([
      [['short'], 90],
      [['long', 'same'], 29_900],
    ])
  })

  it('keeps an unknown outcome unknown while it waits for its next attempt', async () => {
    const stage = new Stage()
    const { ended } = await stage.send('a', { deadline: 150 })
    stage.broker.last.lose('connection-lost')
    stage.broker.become('down')
    await stage.clock.advance(150)
    expect(ended.status).toBe('OutcomeUnknownError connection-lost')
  })
})

describe('a signal', () => {
  it('that is aborted already sends nothing', async () => {
    const stage = new Stage()
    const { ended } = await stage.send('a', { signal: AbortSignal.abort(new Error('no')) })
    expect(ended.status).toBe('PublishRefusedError aborted')
    expect(stage.broker.sends).toEqual([])
  })

  it('refuses what was not handed over', async () => {
    const stage = new Stage()
    stage.broker.opening = () => new Promise(() => undefined)
    const stop = new AbortController()
    const { ended } = await stage.send('a', { signal: stop.signal })
    stop.abort(new Error('no more'))
    await stage.clock.settle()
    expect(ended.status).toBe('PublishRefusedError aborted')
    expect(ended.error?.cause).toEqual(new Error('no more'))
    expect(stage.dispatcher.outstanding).toBe(0)
  })

  it('leaves what was handed over unknown, at once, and its key waits for the answer', async () => {
    const stage = new Stage()
    const stop = new AbortController()
    const { ended } = await stage.send('a', { key: 'k', signal: stop.signal })
    const { ended: follower } = await stage.send('b', { key: 'k' })
    stop.abort(new Error('no more'))
    await stage.clock.settle()
    expect(ended.status).toBe('OutcomeUnknownError unanswered')
    expect(stage.broker.sends).toHaveLength(1)
    stage.broker.last.confirm()
    await stage.clock.settle()
    expect(stage.broker.last.ids).toEqual(['b'])
    stage.broker.last.confirm()
    await stage.clock.settle()
    expect([follower.status, stage.dispatcher.outstanding]).toEqual(['confirmed', 0])
  })

  it('refuses one that was refused and waits for its next attempt; an unknown one stays unknown', async () => {
    const stage = new Stage()
    const stop = new AbortController()
    const { ended } = await stage.send('a', { signal: stop.signal })
    stage.broker.last.refuse('rejected', true)
    const { ended: other } = await stage.send('b', { signal: stop.signal })
    stage.broker.last.lose()
    stop.abort(new Error('no more'))
    await stage.clock.settle()
    expect(ended.status).toBe('PublishRefusedError aborted')
    expect(other.status).toBe('OutcomeUnknownError unanswered')
    await stage.clock.advance(1_000)
    expect(stage.broker.sends).toHaveLength(2)
  })
})

describe('flush', () => {
  it('waits for what was handed in before, and only for that', async () => {
    const stage = new Stage()
    await stage.send('a')
    const [first] = stage.broker.sends
    let flushed = false
    const flush = stage.dispatcher.flush(10_000).then(() => (flushed = true))
    await stage.send('b')
    expect(flushed).toBe(false)
    first?.confirm()
    await stage.clock.settle()
    expect(flushed).toBe(true)
    await flush
    expect(stage.dispatcher.outstanding).toBe(1)
  })

  it('waits for the same messages as another flush does', async () => {
    const stage = new Stage()
    await stage.send('a')
    const done: number[] = []
    const both = [1, 2].map((n) => stage.dispatcher.flush(10_000).then(() => done.push(n)))
    await stage.clock.settle()
    expect(done).toEqual([])
    stage.broker.last.confirm()
    await Promise.all(both)
    expect(done).toEqual([1, 2])
  })

  it('rejects at its deadline and says how many are open', async () => {
    const stage = new Stage()
    await stage.send('a')
    const flush = stage.dispatcher.flush(1_000).catch((error: Error) => error.message)
    await stage.clock.advance(1_000)
    expect(await flush).toBe('the outcome of 1 messages did not end within 1000 ms')
  })

  it('resolves at once when nothing is open', async () => {
    const stage = new Stage()
    await stage.dispatcher.flush(0 + 1)
    expect(stage.clock.timers).toBe(0)
  })
})

describe('close', () => {
  it('refuses what was not handed over and leaves the rest unknown at its deadline', async () => {
    const stage = new Stage()
    const { ended: sent } = await stage.send('a', { key: 'k' })
    const { ended: behind } = await stage.send('b', { key: 'k' })
    const close = stage.dispatcher.close(stage.clock.now() + 500)
    await stage.clock.settle()
    expect([sent.status, behind.status]).toEqual(['open', 'PublishRefusedError not-sent'])
    await stage.clock.advance(500)
    await close
    expect(sent).toMatchObject({ status: 'OutcomeUnknownError unanswered', atMs: 500 })
    expect(await stage.leakedTimers()).toBe(0)
  })

  it('waits for answers and does not try again', async () => {
    const stage = new Stage()
    const { ended: one } = await stage.send('a')
    const { ended: other } = await stage.send('b')
    const [first, second] = stage.broker.sends
    const close = stage.dispatcher.close(stage.clock.now() + 500)
    first?.confirm()
    second?.refuse('rejected', true)
    await stage.clock.run(close)
    expect([one.status, other.status]).toEqual(['confirmed', 'PublishRefusedError rejected'])
    expect(stage.clock.now()).toBe(0)
    expect(await stage.leakedTimers()).toBe(0)
  })

  it('is idempotent, and refuses what comes after', async () => {
    const stage = new Stage()
    const close = stage.dispatcher.close(100)
    expect(stage.dispatcher.close(900)).toBe(close)
    await close
    const { ended } = await stage.send('a')
    expect(ended.status).toBe('ClosedError closed')
    expect(await stage.leakedTimers()).toBe(0)
  })
})
