import { describe, expect, it } from 'vitest'
import type { Delivery } from '../../src/contract/broker.ts'
import type { ConsumedTopic } from '../../src/consume/consumed-topic.ts'
import { Assignment, Held } from '../../src/consume/held.ts'

const topic = { name: 'orders' } as ConsumedTopic

function holding(count: number): { readonly assignment: Assignment; readonly all: Held[] } {
  const assignment = new Assignment({ name: 's', epoch: 1 })
  const all = Array.from(
    { length: count },
    () => new Held({} as Delivery, topic, assignment, 0, false),
  )
  for (const held of all) assignment.held.add(held)
  return { assignment, all }
}

/** The list by who is in it: deep equality would take one delivery for another. */
function placesOf({ held }: Assignment, all: readonly Held[]): number[] {
  return [...held].map((one) => all.indexOf(one))
}

describe('what is held of a source', () => {
  it('keeps its order, whichever of it goes', () => {
    for (const removed of [0, 1, 2, 3]) {
      const { assignment, all } = holding(4)
      assignment.held.delete(all[removed]!)
      expect(placesOf(assignment, all)).toEqual([0, 1, 2, 3].filter((at) => at !== removed))
      expect(assignment.held.size).toBe(3)
    }
  })

  it('can go altogether, in any order, and come again', () => {
    const { assignment, all } = holding(4)
    const [first, second, third, fourth] = all as [Held, Held, Held, Held]
    for (const held of [second, fourth, first, third]) assignment.held.delete(held)
    expect(placesOf(assignment, all)).toEqual([])
    expect(assignment.held.size).toBe(0)
    assignment.held.add(third)
    assignment.held.add(first)
    expect(placesOf(assignment, all)).toEqual([2, 0])
  })

  it('loses nothing by what goes twice', () => {
    const { assignment, all } = holding(3)
    const [, second] = all
    assignment.held.delete(second!)
    assignment.held.delete(second!)
    expect(placesOf(assignment, all)).toEqual([0, 2])
    expect(assignment.held.size).toBe(2)
  })

  it('leaves nothing behind in what has gone, which would keep its neighbours in memory', () => {
    const { assignment, all } = holding(3)
    const [, second] = all
    assignment.held.delete(second!)
    expect([second!.older, second!.newer]).toEqual([null, null])
  })
})
