import { describe, expect, it } from 'vitest'

import { Lifetime } from '../../src/policy/lifetime.ts'
import { Observed } from '../../src/policy/observed.ts'

/** Something that is opened when the test says so. */
function gate(): { opened: Promise<string>; open: () => void; fail: () => void } {
  let open = (): void => undefined
  let fail = (): void => undefined
  const opened = new Promise<string>((resolve, reject) => {
    open = () => resolve('open')
    fail = () => reject(new Error('not now'))
  })
  return { opened, open: () => open(), fail: () => fail() }
}

describe('a lifetime', () => {
  it('opens once for all who ask, and says closed before and after', async () => {
    const lifetime = new Lifetime<string>('broker')
    let begun = 0
    const begin = async (): Promise<string> => `open ${++begun}`
    expect(() => lifetime.here()).toThrow('broker is closed')
    expect(await Promise.all([lifetime.open(begin), lifetime.open(begin)])).toEqual([
      'open 1',
      'open 1',
    ])
    expect(lifetime.here()).toBe('open 1')
    await lifetime.close(0, { end: async () => undefined })
    expect(() => lifetime.here()).toThrow('broker is closed')
  })

  it('may be tried again after it failed, and opened again after it was closed', async () => {
    const lifetime = new Lifetime<string>('broker')
    await expect(lifetime.open(() => Promise.reject(new Error('not now')))).rejects.toThrow('not')
    expect(await lifetime.open(async () => 'first')).toBe('first')
    const steps: string[] = []
    const end = async (opened: string): Promise<void> => {
      await Promise.resolve()
      steps.push(`ended ${opened}`)
    }
    const closing = lifetime.close(0, { end })
    const again = lifetime.open(async () => {
      steps.push('begun')
      return 'second'
    })
    expect(lifetime.close(0, { end })).toBe(closing)
    await closing
    expect([await again, lifetime.here()]).toEqual(['second', 'second'])
    expect(steps).toEqual(['ended first', 'begun'])
  })

  it('closes receivers, then senders, then the rest, whatever fails', async () => {
    const lifetime = new Lifetime<string>('broker')
    await lifetime.open(async () => 'open')
    const steps: string[] = []
    const part = (name: string) => ({
      close: (deadline: number) => {
        steps.push(`${name} by ${deadline}`)
        return Promise.reject(new Error('cannot'))
      },
    })
    lifetime.senders.add(part('sender'))
    lifetime.receivers.add(part('receiver'))
    await lifetime.close(7, { end: async (opened) => void steps.push(opened) })
    expect(steps).toEqual(['receiver by 7', 'sender by 7', 'open'])
  })

  it('gives up what is still opening, and ends what opened all the same', async () => {
    const steps: string[] = []
    const lifetime = new Lifetime<string>('broker')
    const { opened, open } = gate()
    const opening = lifetime.open(() => opened)
    const ending = {
      end: async (one: string) => void steps.push(`ended ${one}`),
      giveUp: () => void steps.push('given up'),
    }
    const closing = lifetime.close(0, ending)
    expect(steps).toEqual(['given up'])
    open()
    await Promise.all([opening, closing])
    expect(steps).toEqual(['given up', 'ended open'])
    expect(() => lifetime.here()).toThrow('broker is closed')
  })

  it('has nothing to end when it never opened', async () => {
    const lifetime = new Lifetime<string>('broker')
    const { opened, fail } = gate()
    const opening = lifetime.open(() => opened)
    const ended: string[] = []
    const closing = lifetime.close(0, { end: async (one) => void ended.push(one) })
    fail()
    await expect(opening).rejects.toThrow('not now')
    await closing
    expect(ended).toEqual([])
  })
})

describe('an observed value', () => {
  it('is told at once and with every change, until one stops listening', () => {
    const observed = new Observed('a')
    const heard: string[] = []
    const stop = observed.listen((value) => void heard.push(value))
    observed.become('b')
    stop()
    observed.become('c')
    expect([heard, observed.value]).toEqual([['a', 'b'], 'c'])
  })
})
