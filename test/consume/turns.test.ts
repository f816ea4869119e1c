import { describe, expect, it } from 'vitest'
import type { ConsumedTopic } from '../../src/consume/consumed-topic.ts'
import { Assignment, Held } from '../../src/consume/held.ts'
import { Turns } from '../../src/consume/turns.ts'
import type { Delivery } from '../../src/contract/broker.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { Gate, Loose, nameOf, Orders, Stage } from './stage.ts'

const PLACES = 16

class Rig {
  readonly clock: VirtualClock = new VirtualClock()
  asked = 0
  readonly turns: Turns = new Turns(this.clock, PLACES, () => void this.asked++)

  ready(assignment: Assignment, count: number): void {
    for (let n = 0; n < count; n++) {
      const topic = { name: 'orders' } as ConsumedTopic
      const held = new Held({} as Delivery, topic, assignment, this.clock.now(), false)
      this.turns.arrived(held)
      this.turns.push(held)
    }
  }

  /** The sources that the next ones come from, each with a place; as many as may start at most. */
  start(most: number): string {
    let names = ''
    for (let n = 0; n < most; n++) {
      const held = this.turns.peek()
      if (held === undefined) break
      this.turns.shift()
      this.turns.started([held])
      names += held.assignment.source.name
    }
    return names
  }
}

const source = (name: string): Assignment => new Assignment({ name, epoch: 1 })

describe('turns of sources', () => {
  it('go to the one with the fewest places, and round among equals', () => {
    const rig = new Rig()
    const [a, b, c] = [source('a'), source('b'), source('c')]
    rig.ready(a, 9)
    rig.ready(b, 2)
    rig.ready(c, 2)
    expect(rig.start(9)).toBe('abcabcaaa')
    rig.ready(b, 3)
    expect(rig.start(3)).toBe('bbb')
  })

  it('leave a quarter of the places to others, as long as there are any', async () => {
    const rig = new Rig()
    const [slow, other] = [source('s'), source('o')]
    rig.ready(other, 1)
    rig.ready(slow, 40)
    expect(rig.start(PLACES)).toBe('os' + 's'.repeat(11))
    expect(rig.turns.length).toBe(28)
    rig.ready(other, 2)
    expect(rig.start(PLACES)).toBe('oo')
    await rig.clock.advance(999)
    expect(rig.start(PLACES)).toBe('')
    expect(rig.asked).toBe(0)
    await rig.clock.advance(1_001)
    expect(rig.asked).toBeGreaterThan(0)
    expect(rig.start(4)).toBe('ssss')
  })

  it('are all its own when a source is alone', () => {
    const rig = new Rig()
    rig.ready(source('a'), 40)
    expect(rig.start(PLACES)).toHaveLength(PLACES)
  })

  it('count a slice once for each of its sources', () => {
    const rig = new Rig()
    const [a, b] = [source('a'), source('b')]
    rig.ready(a, 2)
    rig.ready(b, 1)
    const slice = [...rig.turns]
    rig.turns.started(slice)
    expect([a.places, b.places]).toEqual([1, 1])
    rig.turns.ended(slice)
    expect([a.places, b.places]).toEqual([0, 0])
  })

  it('leave no timer behind', async () => {
    const rig = new Rig()
    rig.ready(source('o'), 1)
    rig.ready(source('s'), 40)
    rig.start(40)
    rig.turns.close()
    expect(rig.clock.timers).toBe(0)
  })
})

describe('a consumer of two sources', () => {
  it('goes on with one while the handlers of the other do not end', async () => {
    const stage = await Stage.open()
    const gate = new Gate()
    const handled: string[] = []
    await stage.started({
      topic: [Orders, Loose],
      concurrency: 4,
      handler: async (order, { topic }) => {
        if (topic === Loose.name) await gate.passed
        handled.push(nameOf(order))
      },
    })
    await stage.orders('a1')
    await stage.orders('x1 x2 x3 x4 x5 x6', Loose)
    await stage.orders('a2 b1 c1')
    await stage.clock.advance(100)
    expect(handled).toEqual(['a1', 'a2', 'b1', 'c1'])
    gate.open()
    await stage.settled()
    expect(handled).toHaveLength(10)
    await stage.close()
  })
})
