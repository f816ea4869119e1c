import { describe, expect, it } from 'vitest'

import { ChannelEnding } from '../../../adapters/rabbitmq/channel-ending.ts'
import type { ChannelParts } from '../../../adapters/rabbitmq/channel-parts.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'

/** A channel of a queue with a single active consumer, whose requests are answered at once. */
function stage(writtenAt: number): {
  clock: VirtualClock
  ending: ChannelEnding
  asked: string[]
  toldAt: number[]
} {
  const clock = new VirtualClock()
  const asked: string[] = []
  const toldAt: number[] = []
  const parts = {
    share: { clock, isSingleActive: true, room: { give: () => undefined } },
    terms: { queue: 'q', prefetch: 10, timeoutMs: null },
    wire: {
      onClose: () => () => undefined,
      rpc: (_what: string, work: () => Promise<unknown>) => work(),
    },
    channel: {
      prefetch: async () => void asked.push(`a round trip at ${clock.now()}`),
      close: async () => void asked.push(`close at ${clock.now()}`),
    },
    settles: {
      ...{ writtenAt, unconfirmed: 1, held: 0, mark: 1 },
      write: () => undefined,
      confirm: () => undefined,
      abandon: () => [],
    },
    resting: { size: 0, drain: () => [] },
  } as unknown as ChannelParts
  const ending = new ChannelEnding(parts, () => void toldAt.push(clock.now()))
  return { clock, ending, asked, toldAt }
}

describe('the end of a consuming channel', () => {
  it('comes when the queue has had time to take what was settled last', async () => {
    const { clock, ending, asked, toldAt } = stage(0)
    await clock.advance(30)
    const left = ending.leave()
    await clock.settle()
    expect(asked).toEqual(['a round trip at 30'])
    await clock.run(left)
    expect(asked).toEqual(['a round trip at 30', 'close at 100'])
    expect(toldAt).toEqual([100])
    expect(ending.end).toMatchObject({ by: 'us' })
    expect(clock.timers).toBe(0)
  })

  it('comes at once when nothing was settled lately', async () => {
    const { clock, ending, asked } = stage(Number.NEGATIVE_INFINITY)
    await ending.leave()
    expect(asked).toEqual(['a round trip at 0', 'close at 0'])
    expect(clock.timers).toBe(0)
  })

  it('is told once, whatever ends it first', async () => {
    const { clock, ending, asked, toldAt } = stage(0)
    const left = ending.leave()
    await clock.advance(50)
    ending.over('wire', 'the connection was lost')
    await clock.run(left)
    expect(ending.end).toMatchObject({ by: 'wire' })
    expect(toldAt).toEqual([50])
    expect(asked).toEqual(['a round trip at 0'])
  })
})
