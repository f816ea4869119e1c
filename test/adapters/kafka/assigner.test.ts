import { AssignerProtocol } from 'kafkajs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { assign, type GroupMember } from '../../../adapters/kafka/assigner.ts'
import type { TopicPartition } from '../../../adapters/kafka/driver.ts'
import {
  decodeAssignment,
  decodeClaim,
  encodeAssignment,
  encodeClaim,
} from '../../../adapters/kafka/group-protocol.ts'

const names = ['orders', 'orders.a.retry.0', 'orders.a.retry.1000', 'orders.a.retry.5000']

function member(id: string, topics = names, owned: TopicPartition[] = [], generation = 1) {
  return { id, topics, owned, generation } satisfies GroupMember
}

function layout(counts: readonly number[]): Map<string, number[]> {
  return new Map(
    counts.map((count, at) => [names[at] as string, Array.from({ length: count }, (_, p) => p)]),
  )
}

const key = ({ topic, partition }: TopicPartition): string => `${topic}/${partition}`

/** Joins again and again, as members do that gave up what was asked of them, until nothing moves. */
function settled(
  members: readonly GroupMember[],
  partitions: ReadonlyMap<string, readonly number[]>,
): { readonly members: readonly GroupMember[]; readonly rounds: number } {
  let now = members
  for (let rounds = 1; ; rounds++) {
    const given = assign(now, partitions, 'asking')
    const isStill = now.every(({ id, owned }) => same(owned, given.get(id) ?? []))
    if (isStill || rounds === 10) return { members: now, rounds }
    now = now.map((one) => ({ ...one, owned: given.get(one.id) ?? [], generation: rounds + 1 }))
  }
}

function same(one: readonly TopicPartition[], other: readonly TopicPartition[]): boolean {
  return one.map(key).sort().join() === other.map(key).sort().join()
}

const group = fc.record({
  counts: fc.array(fc.nat(9), { minLength: 1, maxLength: 4 }),
  wishes: fc.array(fc.subarray(names, { minLength: 1 }), { minLength: 1, maxLength: 6 }),
})

describe('assign', () => {
  it('gives every partition to exactly one member that wants it, evenly, within two rounds of moving', () => {
    fc.assert(
      fc.property(group, fc.nat(5), ({ counts, wishes }, leaver) => {
        const partitions = layout(counts)
        const all = wishes.map((topics, at) => member(`m${at}`, topics))
        const before = settled(all, partitions).members
        const left = before.filter((_, at) => at !== leaver % Math.max(2, before.length))
        const joined = [...left, member('new', names)]
        const { members, rounds } = settled(joined, partitions)
        expect(rounds).toBeLessThanOrEqual(4)
        for (const [topic, numbers] of partitions) {
          const owners = members.filter((one) => one.topics.includes(topic))
          const shares = owners.map(({ owned }) => owned.filter((p) => p.topic === topic).length)
          const sum = shares.reduce((one, other) => one + other, 0)
          expect(sum).toBe(owners.length === 0 ? 0 : numbers.length)
          expect(Math.max(...shares) - Math.min(...shares)).toBeLessThanOrEqual(1)
        }
        const given = members.flatMap(({ owned }) => owned.map(key))
        expect(new Set(given).size).toBe(given.length)
      }),
    )
  })

  it('never gives away what a living member has not given up', () => {
    fc.assert(
      fc.property(group, ({ counts, wishes }) => {
        const partitions = layout(counts)
        const first = settled([member('m0', names)], partitions).members
        const joined = [...first, ...wishes.map((topics, at) => member(`n${at}`, topics))]
        const given = assign(joined, partitions, 'asking')
        const owned = new Set(first.flatMap((one) => one.owned.map(key)))
        for (const [id, parts] of given) {
          if (id !== 'm0') expect(parts.filter((part) => owned.has(key(part)))).toEqual([])
        }
      }),
    )
  })

  it('moves nothing when nothing changed', () => {
    fc.assert(
      fc.property(group, ({ counts, wishes }) => {
        const partitions = layout(counts)
        const { members } = settled(
          wishes.map((topics, at) => member(`m${at}`, topics)),
          partitions,
        )
        const given = assign(members, partitions, 'asking')
        for (const { id, owned } of members) expect(same(owned, given.get(id) ?? [])).toBe(true)
      }),
    )
  })

  it('shares topics of one partition out as well', () => {
    const partitions = layout([1, 1, 1, 1])
    const { members } = settled([member('a'), member('b')], partitions)
    expect(members.map(({ owned }) => owned.length)).toEqual([2, 2])
  })

  it('believes the later of two claims', () => {
    const partition = { topic: 'orders', partition: 0 }
    const members = [member('a', names, [partition], 3), member('b', names, [partition], 4)]
    const given = assign(members, layout([1]), 'asking')
    expect([given.get('a'), given.get('b')]).toEqual([[], [partition]])
  })

  it('hands over at once where members know no asking', () => {
    const owned = [0, 1].map((partition) => ({ topic: 'orders', partition }))
    const given = assign([member('a', names, owned), member('b')], layout([2]), 'at-once')
    expect([...given.values()].map((parts) => parts.length)).toEqual([1, 1])
  })
})

describe('the group protocol', () => {
  const claim = {
    topics: ['orders', 'żółć'],
    generation: 7,
    owned: [0, 5].map((partition) => ({ topic: 'orders', partition })),
  }

  it('is read back as it was written', () => {
    expect(decodeClaim(encodeClaim(claim))).toEqual(claim)
    expect(decodeAssignment(encodeAssignment(claim.owned))).toEqual(claim.owned)
    expect(decodeAssignment(encodeAssignment([]))).toEqual([])
    expect(decodeAssignment(Buffer.alloc(0))).toEqual([])
  })

  it('is understood by kafkajs, and understands it', () => {
    const theirs = AssignerProtocol.MemberMetadata.decode(encodeClaim(claim))
    expect(theirs?.topics).toEqual(claim.topics)
    const metadata = { version: 1, topics: ['orders'], userData: Buffer.from('{"x":1}') }
    const read = decodeClaim(AssignerProtocol.MemberMetadata.encode(metadata))
    expect(read).toEqual({ topics: ['orders'], generation: -1, owned: [] })
    expect(AssignerProtocol.MemberAssignment.decode(encodeAssignment(claim.owned))).toMatchObject({
      assignment: { orders: [0, 5] },
    })
  })
})
