import { z } from 'zod'
import { describe, expect, it } from 'vitest'
import { HoldfastError, PermanentError } from '../../src/contract/errors.ts'
import { ownHeaders } from '../../src/contract/headers.ts'
import { topic } from '../../src/contract/topic.ts'
import { constant } from '../../src/policy/backoff.ts'
import { Loose, Orders, Stage, text } from './stage.ts'

const Checked = topic('loose', {
  schema: z.object({ n: z.number(), customer: z.string() }).refine(({ n }) => n < 100, 'too many'),
})
const Awaited = topic('loose', {
  schema: z.object({ n: z.number() }).refine((value) => Promise.resolve(value.n === 1), 'not one'),
})

describe('a message that no handler can get', () => {
  it.each([
    ['not JSON', 'oops', 'codec', 'the body is not JSON'],
    ['not UTF-8', Buffer.from([0xff, 0xfe]), 'codec', 'not valid UTF-8'],
    ['empty', '', 'codec', 'the body is not JSON'],
    ['not what the schema says', '{"n":"1"}', 'schema', 'n: '],
    ['refused by the schema', '{"n":100,"customer":"a"}', 'schema', 'too many'],
  ])('is dead-lettered with its original bytes: %s', async (_what, body, reason, error) => {
    const stage = await Stage.open()
    let runs = 0
    await stage.started({ topic: Checked, handler: () => void runs++ })
    const envelope = await stage.send(Loose, { customer: 'a', n: 1 }, { headers: { color: 'red' } })
    await stage.sendRaw({ ...envelope, id: 'bad', body: Buffer.from(body) })
    expect(runs).toBe(1)
    const [dead, ...more] = stage.dead(Loose)
    expect(more).toEqual([])
    expect(Buffer.from(dead!.body!)).toEqual(Buffer.from(body))
    expect(dead).toMatchObject({ id: 'bad', type: 'loose', producer: 'stage' })
    expect(text(dead!.headers, 'color')).toBe('red')
    expect(text(dead!.headers, ownHeaders.deadReason)).toBe(reason)
    expect(text(dead!.headers, ownHeaders.deadError)).toContain(error)
    expect(text(dead!.headers, ownHeaders.deadAttempts)).toBe('0')
    expect(text(dead!.headers, ownHeaders.deadAt)).toBe(String(stage.clock.wallMs()))
    expect(text(dead!.headers, ownHeaders.deadFrom)).toBe('loose.billing#1')
    expect(stage.told('message.dead')).toMatchObject([{ reason, id: 'bad', attempt: 0 }])
    expect(await stage.depth(Loose)).toBe(0)
    await stage.close()
  })

  it('is waited for while its schema validates asynchronously', async () => {
    const stage = await Stage.open()
    const seen: number[] = []
    await stage.started({ topic: Awaited, handler: ({ n }) => void seen.push(n) })
    await stage.orders('a1 a2 a1', Loose)
    expect(seen).toEqual([1, 1])
    expect(text(stage.dead(Loose)[0]!.headers, ownHeaders.deadError)).toContain('not one')
    await stage.close()
  })

  it('is dead-lettered when its schema throws', async () => {
    const stage = await Stage.open()
    const standard = { version: 1, vendor: 'test', validate: () => Promise.reject(new Error('no')) }
    const broken = topic('loose', { schema: { '~standard': standard as never } })
    await stage.started({ topic: broken, handler: () => undefined })
    await stage.orders('a1', Loose)
    expect(text(stage.dead(Loose)[0]!.headers, ownHeaders.deadReason)).toBe('schema')
    await stage.close()
  })

  it('is dead-lettered after it expired', async () => {
    const stage = await Stage.open()
    let runs = 0
    await stage.started({ topic: Loose, handler: () => void runs++ })
    const at = stage.clock.wallMs()
    await stage.send(Loose, { customer: 'a', n: 1 }, { expiresAt: at })
    await stage.send(Loose, { customer: 'a', n: 2 }, { expiresAt: at + 1_000 })
    expect(runs).toBe(1)
    expect(text(stage.dead(Loose)[0]!.headers, ownHeaders.deadReason)).toBe('expired')
    await stage.close()
  })
})

describe('a message whose handler fails', () => {
  it('is dead-lettered at once by a PermanentError', async () => {
    const stage = await Stage.open()
    await stage.started({
      topic: Loose,
      handler: () => {
        throw new PermanentError('no such customer')
      },
    })
    await stage.orders('a1', Loose)
    const { headers } = stage.dead(Loose)[0]!
    expect(text(headers, ownHeaders.deadReason)).toBe('permanent')
    expect(text(headers, ownHeaders.deadError)).toBe('PermanentError: no such customer')
    expect(text(headers, ownHeaders.deadAttempts)).toBe('1')
    await stage.close()
  })

  it.each(['native', 'levels', 'none'] as const)(
    'is dead-lettered after its attempts and not before, delays: %s',
    async (retryDelay) => {
      const stage = await Stage.open({ capabilities: { retryDelay } })
      const attempts: number[] = []
      await stage.started({
        topic: Loose,
        retry: { attempts: 3, backoff: constant(1_000) },
        handler: (_order, { attempt }) => {
          attempts.push(attempt)
          throw new Error(`try ${attempt}`)
        },
      })
      await stage.orders('a1', Loose)
      await stage.settled()
      expect(attempts).toEqual([1, 2, 3])
      const { headers } = stage.dead(Loose)[0]!
      expect(text(headers, ownHeaders.deadReason)).toBe('attempts-exhausted')
      expect(text(headers, ownHeaders.deadError)).toBe('Error: try 3')
      expect(text(headers, ownHeaders.deadAttempts)).toBe('3')
      expect(text(headers, ownHeaders.attempt)).toBeUndefined()
      await stage.close()
    },
  )

  it('is discarded with an event only where that is written', async () => {
    const stage = await Stage.open()
    await stage.started({
      topic: Loose,
      onExhausted: 'discard',
      retry: { attempts: 1 },
      handler: () => {
        throw new Error('no')
      },
    })
    await stage.orders('a1', Loose)
    expect(stage.dead(Loose)).toEqual([])
    expect(await stage.depth(Loose)).toBe(0)
    expect(stage.told('message.discarded')).toMatchObject([
      { reason: 'attempts-exhausted', attempt: 1 },
    ])
    await stage.close()
  })

  it('is clipped in what it says: an error text of any length', async () => {
    const stage = await Stage.open()
    await stage.started({
      topic: Loose,
      handler: () => {
        throw new PermanentError('x'.repeat(5_000))
      },
    })
    await stage.orders('a1', Loose)
    expect(text(stage.dead(Loose)[0]!.headers, ownHeaders.deadError)).toHaveLength(1_024)
    await stage.close()
  })

  it.each([
    ['nothing', undefined, 'thrown: undefined'],
    ['a text', 'oh no', 'thrown: "oh no"'],
  ])('may throw anything: %s', async (_what, thrown, error) => {
    const stage = await Stage.open()
    await stage.started({
      topic: Loose,
      retry: { attempts: 1 },
      handler: () => Promise.reject(thrown as never),
    })
    await stage.orders('a1', Loose)
    expect(text(stage.dead(Loose)[0]!.headers, ownHeaders.deadError)).toContain(error)
    await stage.close()
  })
})

describe('a dead letter', () => {
  it('is acknowledged after its confirm, not before', async () => {
    const stage = await Stage.open()
    const dead = { match: ({ to }: { to: { kind: string } }) => to.kind === 'dead' }
    stage.broker.faults.delayConfirms(400, dead)
    await stage.started({
      topic: Orders,
      handler: () => {
        throw new PermanentError('never')
      },
    })
    await stage.orders('a1')
    await stage.clock.advance(399)
    expect(stage.crashes).not.toContain('after_ack')
    expect(await stage.depth()).toBe(1)
    await stage.clock.advance(2)
    expect(stage.crashes.slice(-3)).toEqual([
      'after_dlq_publish_before_ack',
      'after_commit_before_ack',
      'after_ack',
    ])
    await stage.close()
  })

  it('that cannot be stored keeps its delivery held, and is stored later', async () => {
    const stage = await Stage.open()
    const fault = stage.broker.faults.refuseSends({
      match: ({ to }) => to.kind === 'dead',
      times: 4,
      retryable: false,
    })
    await stage.started({
      topic: Orders,
      handler: (order) => {
        if (order.n === 1) throw new PermanentError('never')
      },
    })
    await stage.orders('a1 a2')
    expect(await stage.depth()).toBe(2)
    expect(stage.dead()).toEqual([])
    await stage.settled()
    expect(fault.hits).toBe(4)
    expect(stage.dead()).toHaveLength(1)
    expect(stage.told('settle.failed').every(({ error }) => error instanceof HoldfastError)).toBe(
      true,
    )
    await stage.close()
  })

  it('keeps duplicate, binary and null headers and a body without bytes', async () => {
    const stage = await Stage.open()
    await stage.started({
      topic: Loose,
      handler: () => {
        throw new PermanentError('never')
      },
    })
    const envelope = await stage.send(Loose, { customer: 'a', n: 1 })
    const headers = [
      ['x', '1'],
      ['x', '2'],
      ['bytes', Buffer.from([0, 255])],
      ['nothing', null],
    ] as const
    await stage.sendRaw({ ...envelope, id: 'm', body: null, headers })
    const dead = stage.dead(Loose)[1]!
    expect(dead.body).toBeNull()
    expect(dead.headers.slice(0, 4)).toEqual(headers)
    await stage.close()
  })

  it('goes without the headers it came with when the broker does not take it with them', async () => {
    const stage = await Stage.open()
    const handler = (): never => {
      throw new PermanentError('no')
    }
    await stage.started({ topic: Loose, handler })
    stage.broker.faults.refuseSends({
      match: ({ to, headers }) => to.kind === 'dead' && text(headers, 'color') !== undefined,
      ...{ code: 'too-large', retryable: false, times: 99 },
    })
    await stage.send(Loose, { customer: 'a', n: 1 }, { headers: { color: 'red' } })
    await stage.settled()
    const [dead, ...more] = stage.dead(Loose)
    expect(more).toEqual([])
    expect(text(dead!.headers, 'color')).toBeUndefined()
    expect(text(dead!.headers, ownHeaders.deadBare)).toBe('1')
    expect(text(dead!.headers, ownHeaders.deadReason)).toBe('permanent')
    expect(JSON.parse(Buffer.from(dead!.body!).toString())).toEqual({ customer: 'a', n: 1 })
    expect(stage.told('settle.failed')).toHaveLength(1)
    await stage.close()
  })
})
