import { randomBytes } from 'node:crypto'

import { afterAll, afterEach, describe, expect, it } from 'vitest'

import type { Part } from '../../../adapters/kafka/driver.ts'
import { ClusterGroupLink } from '../../../adapters/kafka/cluster-group-link.ts'
import { Transactor, type TransactionWork } from '../../../adapters/kafka/transactor.ts'
import { systemClock, systemRandom } from '../../../src/contract/clock.ts'
import { NO_HEADERS } from '../../../src/contract/message.ts'
import { until } from '../../brokers/handshake.ts'
import { openBehind } from '../../brokers/kafka-behind.ts'
import { membersOf } from '../../brokers/kafka-groups.ts'
import { readAll } from '../../brokers/kafka-read.ts'
import { createTopic } from '../../brokers/kafka-topics.ts'
import { sharedKafka } from '../../brokers/shared-kafka.ts'
import { clientUnderTest } from './client-under-test.ts'
import { specOf, TestMember } from './test-member.ts'

const LIMIT_MS = 30_000
/** A group without members takes offsets from anybody who says that he is none. */
const NOBODY = { id: '', generation: -1 }

const node = await sharedKafka()
const direct = [node.broker]
const behind = await openBehind([node])
const ends: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end()
})
afterAll(() => behind.close())

const soon = (): number => systemClock.now() + LIMIT_MS

/** A source and a target, and who copies from one to the other. */
class Place {
  readonly source: string
  readonly target: string
  readonly groupId: string
  readonly why: unknown[] = []

  private constructor(name: string) {
    this.source = `source-${name}`
    this.target = `target-${name}`
    this.groupId = `group-${name}`
  }

  static async make(): Promise<Place> {
    const place = new Place(randomBytes(5).toString('hex'))
    for (const topic of [place.source, place.target]) await createTopic(direct, topic)
    return place
  }

  async transactor(transactionalId = `${this.groupId}.tx`): Promise<Transactor> {
    const made = new Transactor({
      client: await clientUnderTest({ brokers: behind.brokers }),
      clock: systemClock,
      random: systemRandom,
      connectTimeoutMs: 5_000,
      requestTimeoutMs: 10_000,
      codec: null,
      transactionalId,
    })
    ends.push(() => made.close())
    return made
  }

  work(offset: bigint, texts: readonly string[], member = NOBODY): TransactionWork {
    const records = texts.map((text) => {
      return { key: null, value: Buffer.from(text), headers: NO_HEADERS, timestampMs: null }
    })
    const part: Part = { topic: this.target, partition: 0, records }
    const { source, groupId } = this
    const offsets = [{ topic: source, partition: 0, offset, metadata: 'as far as that' }]
    return { rounds: [[part]], groupId, member, offsets }
  }

  run(transactor: Transactor, work: TransactionWork): ReturnType<Transactor['run']> {
    return transactor.run(work, soon(), (why) => this.why.push(why))
  }

  async link(): Promise<ClusterGroupLink> {
    const link = new ClusterGroupLink({
      ...specOf([this.source]),
      groupId: this.groupId,
      client: await clientUnderTest({ brokers: direct }),
      clock: systemClock,
    })
    ends.push(() => link.close(soon()))
    await link.open(soon())
    return link
  }

  async committed(): Promise<bigint | null> {
    const link = await this.link()
    const [found] = await link.committed([{ topic: this.source, partition: 0 }], soon())
    return found?.offset ?? null
  }

  async texts(): Promise<string[]> {
    return (await readAll(direct, this.target)).map(({ value }) => String(value))
  }
}

describe('a transactor', () => {
  it('commits records and offsets together, one transaction after the other', async () => {
    const place = await Place.make()
    const transactor = await place.transactor()
    expect(await place.run(transactor, place.work(3n, ['a', 'b']))).toBe('committed')
    expect(await place.run(transactor, place.work(5n, ['c']))).toBe('committed')
    expect([await place.texts(), await place.committed()]).toEqual([['a', 'b', 'c'], 5n])
  })

  it('is refused as a member that the group does not know, or no longer in that generation', async () => {
    const place = await Place.make()
    const spec = { ...specOf([place.source]), groupId: place.groupId }
    const member = await TestMember.join(direct, spec)
    ends.push(() => member.leave())
    const [id] = await membersOf([node], place.groupId)
    const transactor = await place.transactor()
    const strangers = [
      { id: 'somebody', generation: 1 },
      { id: id as string, generation: 99 },
      { id: id as string, generation: 0 },
    ]
    for (const stranger of strangers) {
      const ended = await place.run(transactor, place.work(3n, ['no'], stranger))
      expect(ended, JSON.stringify(stranger)).toBe('aborted')
    }
    const own = { id: id as string, generation: 1 }
    expect(await place.run(transactor, place.work(4n, ['yes'], own))).toBe('committed')
    expect([await place.texts(), await place.committed()]).toEqual([['yes'], 4n])
  })

  it('is fenced by another of the same id', async () => {
    const place = await Place.make()
    const [one, other] = [await place.transactor(), await place.transactor()]
    expect(await place.run(one, place.work(1n, ['a']))).toBe('committed')
    expect(await place.run(other, place.work(2n, ['b']))).toBe('committed')
    expect(await place.run(one, place.work(1n, ['no']))).toBe('aborted')
    expect([await place.texts(), await place.committed()]).toEqual([['a', 'b'], 2n])
  })

  it.each([
    'AddPartitionsToTxn',
    'Produce',
    'AddOffsetsToTxn',
    'TxnOffsetCommit',
    'EndTxn',
  ] as const)('commits once although the answer to %s is lost', async (api) => {
    const place = await Place.make()
    const transactor = await place.transactor()
    const [proxy] = behind.proxies
    const rule = proxy!.rule(api, { do: 'reset-answer' }, 1)
    ends.push(() => rule.heal())
    expect(await place.run(transactor, place.work(3n, ['a']))).toBe('committed')
    expect([await place.texts(), await place.committed()]).toEqual([['a'], 3n])
  })

  it('does not know how it ended when nobody answers its end, and goes on after that', async () => {
    const place = await Place.make()
    const transactor = await place.transactor()
    const [proxy] = behind.proxies
    const rule = proxy!.rule('EndTxn', { do: 'drop' }, Infinity)
    ends.push(() => rule.heal())
    const work = place.work(3n, ['lost'])
    const ended = transactor.run(work, systemClock.now() + 12_000, (why) => place.why.push(why))
    const link = await place.link()
    const part = [{ topic: place.source, partition: 0 }]
    const refused = (): Promise<boolean> =>
      link.committed(part, soon()).then(
        () => false,
        (error: { code?: number }) => error.code === 88,
      )
    await until('offsets that are not stable', refused, LIMIT_MS)
    expect(await ended).toBe('unknown')
    expect(await refused()).toBe(true)
    rule.heal()
    expect(await place.run(transactor, place.work(4n, ['a']))).toBe('committed')
    expect([await place.texts(), await place.committed()]).toEqual([['a'], 4n])
  })
})
