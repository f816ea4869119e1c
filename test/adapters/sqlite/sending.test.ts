import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'

import { Prepared } from '../../../adapters/sqlite/prepared.ts'
import type { Broker } from '../../../src/contract/broker.ts'
import { systemClock } from '../../../src/contract/clock.ts'
import type { Envelope } from '../../../src/contract/message.ts'
import { OpenedFiles } from './opened-files.ts'
import { context, envelopes, GROUP, group, send, soon, take, TOPIC, until, words } from './stage.ts'

const files = new OpenedFiles()
const dead = { kind: 'dead', topic: TOPIC, group: GROUP } as const

describe('sending to a SQLite file', () => {
  let broker: Broker

  beforeEach(async () => {
    broker = await files.broker(files.next())
  })
  afterEach(() => void vi.restoreAllMocks())

  const stored = async (): Promise<readonly (string | null)[]> =>
    ((await broker.inspect?.browse(group, 10_000)) ?? []).map(({ id }) => id)

  it('stores many calls with one COMMIT', async () => {
    const sender = broker.sender('publish')
    const run = vi.spyOn(Prepared.prototype, 'run')
    const calls = Array.from({ length: 100 }, (_, n) => send(sender, envelopes([`m${n}`])))
    await Promise.all(calls)
    expect(run.mock.calls.filter(([sql]) => sql === 'COMMIT')).toHaveLength(1)
    expect(await stored()).toEqual(Array.from({ length: 100 }, (_, n) => `m${n}`))
  })

  it('splits what is too much for one COMMIT, in order', async () => {
    const sender = broker.sender('publish')
    const run = vi.spyOn(Prepared.prototype, 'run')
    const calls = Array.from({ length: 6 }, (_, call) =>
      send(sender, envelopes(Array.from({ length: 400 }, (_id, n) => `m${call * 400 + n}`))),
    )
    await Promise.all(calls)
    expect(run.mock.calls.filter(([sql]) => sql === 'COMMIT')).toHaveLength(3)
    expect(await stored()).toEqual(Array.from({ length: 2_400 }, (_, n) => `m${n}`))
  })

  it('never reports from inside send()', async () => {
    const sender = broker.sender('publish')
    let inside = true
    const reported = new Promise<boolean>((resolve) => {
      sender.send(envelopes(['a']), soon(), () => resolve(inside))
    })
    inside = false
    expect(await reported).toBe(false)
  })

  it('leaves out one envelope SQLite does not take, and stores its neighbours', async () => {
    const sender = broker.sender('publish')
    const [a, bad, c] = envelopes(['a', 'bad', 'c'], { key: null }) as Envelope[]
    const wrong = { ...bad, timeMs: Symbol('no time') as unknown as number } as Envelope
    const alone = send(sender, envelopes(['other'], { key: null }))
    const outcomes = await send(sender, [a!, wrong, c!])
    expect(words(outcomes)).toEqual(['confirmed', 'rejected', 'confirmed'])
    expect(words(await alone)).toEqual(['confirmed'])
    expect(new Set(await stored())).toEqual(new Set(['a', 'c', 'other']))
  })

  it('refuses ids that a database would cut off', async () => {
    const outcomes = await send(
      broker.sender('publish'),
      envelopes(['a\u0000b', 'c'], { key: null }),
    )
    expect(words(outcomes)).toEqual(['rejected', 'confirmed'])
  })

  it('refuses a topic nobody declared, and a topic with groups left out by name', async () => {
    const sender = broker.sender('publish')
    const to = { kind: 'topic', topic: 'unknown' } as const
    const [outcome] = await send(sender, envelopes(['a'], { to }))
    expect(outcome).toMatchObject({ status: 'refused', error: { name: 'UnroutableError' } })
    const nobody = { kind: 'group', topic: TOPIC, group: 'nobody', delayMs: 0 } as const
    const [other] = await send(sender, envelopes(['a'], { to: nobody }))
    expect(other).toMatchObject({
      status: 'refused',
      error: { code: 'unroutable', message: expect.stringContaining('"nobody"') as string },
    })
  })

  it('stores nothing, on purpose, of a topic declared with no groups', async () => {
    const topic = { name: 'log', groups: [], partitions: null, ordering: 'none', retryLevelsMs: [] }
    await broker.provision({ topics: [topic as never] }, 'create')
    const to = { kind: 'topic', topic: 'log' } as const
    expect(words(await send(broker.sender('publish'), envelopes(['a'], { to })))).toEqual([
      'confirmed',
    ])
    expect(await broker.inspect?.depth(to)).toBe(0)
  })

  it('reaches a group that another process declared a moment ago', async () => {
    const sender = broker.sender('publish')
    await send(sender, envelopes(['before']))
    const late = { name: TOPIC, groups: [GROUP, 'late'], partitions: null, ordering: 'key' }
    await broker.provision({ topics: [{ ...late, retryLevelsMs: [] } as never] }, 'create')
    await send(sender, envelopes(['after']))
    const seen = await broker.inspect?.browse({ ...group, group: 'late' }, 10)
    expect(seen?.map(({ id }) => id)).toEqual(['after'])
  })

  it('keeps dead letters, with their headers, until somebody looks', async () => {
    const headers = [['holdfast-dead-reason', 'schema']] as const
    const [outcome] = await send(broker.sender('settle'), envelopes(['a'], { to: dead, headers }))
    expect(outcome?.status).toBe('confirmed')
    expect(await broker.inspect?.depth(dead)).toBe(1)
    const [letter] = (await broker.inspect?.browse(dead, 10)) ?? []
    expect(letter?.headers).toEqual(headers)
    expect(letter?.to).toEqual(dead)
    const taker = await take(broker)
    await send(broker.sender('publish'), envelopes(['b']))
    await until(() => taker.deliveries.length === 1, 'the message')
    expect(taker.ids).toEqual(['b'])
  })

  it('counts a topic as the sum of its groups', async () => {
    const late = { name: TOPIC, groups: [GROUP, 'mail'], partitions: null, ordering: 'key' }
    await broker.provision({ topics: [{ ...late, retryLevelsMs: [] } as never] }, 'create')
    await send(broker.sender('publish'), envelopes(['a', 'b']))
    expect(await broker.inspect?.depth({ kind: 'topic', topic: TOPIC })).toBe(4)
  })

  it('refuses what is sent after close(), and closes with calls under way', async () => {
    const sender = broker.sender('publish')
    const under = send(sender, envelopes(['a']))
    await sender.close(soon())
    expect(words(await under)).toEqual(['confirmed'])
    expect(words(await send(sender, envelopes(['b'])))).toEqual(['not-sent'])
    await sender.close(soon())
    expect(await stored()).toEqual(['a'])
  })

  it('writes nothing whose deadline passed while the process stood still', async () => {
    let skewMs = 0
    const clock = { ...systemClock, now: () => systemClock.now() + skewMs }
    const file = files.next()
    const paused = await files.broker(file, {}, { ...context(), clock })
    const sender = paused.sender('publish')
    const outcomes = send(sender, envelopes(['late']), 1_000)
    skewMs = 60_000
    expect(words(await outcomes)).toEqual(['not-sent'])
    expect(await paused.inspect?.depth(group)).toBe(0)
    await paused.close(clock.now() + 5_000)
  })

  it('is never early with what is for later', async () => {
    const taker = await take(broker)
    const sender = broker.sender('settle')
    const to = { ...group, delayMs: 120 }
    const sentMs = systemClock.now()
    await send(sender, envelopes(['later'], { to }))
    await until(() => taker.deliveries.length === 1, 'the message')
    expect(systemClock.now() - sentMs).toBeGreaterThanOrEqual(120)
    expect(taker.deliveries[0]).toMatchObject({ attempt: 1 })
  })
})
