import { describe, expect, it } from 'vitest'

import { Limiter } from '../../src/policy/limiter.ts'

describe('Limiter', () => {
  it('runs at most so many at once, in order, and frees the place of a failed one', async () => {
    const limiter = new Limiter(2)
    const started: number[] = []
    const ends: (() => void)[] = []
    const work = (n: number): Promise<void> => {
      started.push(n)
      return new Promise((resolve, reject) => {
        ends[n] = n === 0 ? () => reject(new Error('failed')) : resolve
      })
    }
    const all = [0, 1, 2, 3].map((n) => limiter.run(() => work(n)))
    await Promise.resolve()
    expect(started).toEqual([0, 1])
    ends[0]?.()
    await expect(all[0]).rejects.toThrow('failed')
    expect(started).toEqual([0, 1, 2])
    ends[1]?.()
    await all[1]
    await Promise.resolve()
    expect(started).toEqual([0, 1, 2, 3])
    ends[2]?.()
    ends[3]?.()
    await Promise.all(all.slice(2))
  })
})
