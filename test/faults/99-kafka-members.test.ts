import { setTimeout as pause } from 'node:timers/promises'

import { afterAll, afterEach, describe, expect, it } from 'vitest'

import { startKafka } from '../brokers/kafka.ts'
import { until } from '../brokers/handshake.ts'
import { withAdmin } from '../brokers/kafka-topics.ts'
import { chance, oneOf, seedOfRun } from '../process/rig/chance.ts'
import { Herd, type HerdOptions } from './kafka/herd.ts'
import type { Member } from './kafka/member.ts'

const seed = seedOfRun()
const { node, remove } = await startKafka()
afterAll(remove)

const cleanUps: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).toReversed()) await cleanUp()
})

function newHerd(options: Omit<HerdOptions, 'brokers'> = {}): Herd {
  const herd = new Herd({ brokers: [node.broker], ...options })
  cleanUps.push(() => herd.close())
  return herd
}

const keys = (count: number): readonly string[] => Array.from({ length: count }, (_, n) => `k${n}`)

describe(`consumers of Kafka in processes of their own (HOLDFAST_SEED=${seed})`, () => {
  it('join, leave in order and die every 2 s, and each key keeps its order', async () => {
    const herd = newHerd({ partitions: 12 })
    const draw = chance(seed)
    await herd.member({ handlerMs: 5 })
    const writing = new AbortController()
    const published = herd.publishUntil(writing.signal, keys(48), 100)
    let deaths = 0
    for (let n = 0; n < 16; n++) {
      await pause(2_000)
      const living = herd.members.filter(({ isAlive }) => isAlive)
      const joins = living.length < 2 || (living.length < 4 && draw() < 0.5)
      herd.fault(joins ? 'join' : 'leave')
      if (joins) {
        await herd.member({ handlerMs: 5 })
      } else if (draw() < 0.5) {
        await oneOf(living, draw).stop()
      } else {
        deaths++
        await oneOf(living, draw).kill()
      }
    }
    writing.abort()
    await published
    await herd.verdict({
      // Each change may bring again what was begun and not yet committed.
      duplicates: 16 * 600,
      demands: { published: 1_000, delivered: 1_000, faults: 16, killed: deaths },
    })
  })

  it('are killed with 32 messages in hand, and nothing is lost', async () => {
    const herd = newHerd()
    const deaths = 6
    const each = 400
    const writing = new AbortController()
    // More than is handled while nobody is there: whoever starts finds enough to have its hands full.
    const published = herd.publishUntil(writing.signal, keys(64), 150)
    for (let n = 0; n < deaths; n++) {
      const member = await herd.member({ concurrency: 32, handlerMs: 20 })
      const before = herd.handled().size
      await herd.untilHandled(before + each)
      herd.fault('SIGKILL')
      await member.kill()
    }
    writing.abort()
    await published
    await herd.member({ concurrency: 32, handlerMs: 20 })
    const { counts } = await herd.verdict({
      // What was finished within the last second may not be committed.
      duplicates: deaths * 2_500,
      demands: { killed: deaths, faults: deaths, duplicates: 1, redelivered: 1 },
    })
    console.log(`${counts.duplicates} duplicates of ${counts.published} messages`)
  })

  it('crash with one message stuck and 5 000 behind it done: only the stuck one comes again', async () => {
    const herd = newHerd({ partitions: 1, ordering: 'none' })
    const first = await herd.member({ stuck: ['p-stuck-0'], concurrency: 8 })
    await herd.publish(1, ['stuck'])
    await herd.publish(5_000, keys(10))
    await herd.untilHandled(5_000)
    await untilCommitted(herd)
    herd.fault('SIGKILL')
    await first.kill()
    const second = await herd.member()
    await herd.verdict({ duplicates: 1, demands: { killed: 1, published: 5_001, faults: 1 } })
    expect(deliveriesOf(herd, second)).toEqual(['p-stuck-0'])
  })

  it('die of one message, which ends dead, and no other does', async () => {
    const herd = newHerd({ partitions: 2 })
    await herd.publish(300, keys(20))
    const killer = 'p-k3-5'
    let deaths = 0
    while (herd.lines(({ op }) => op === 'dlq_seen').length === 0 && deaths < 12) {
      const given = { killer, starts: herd.startsFile, attempts: 3, concurrency: 4 }
      const member = await herd.member(given).catch(() => null)
      if (member === null) {
        deaths++
        continue
      }
      await until(
        'the killer to kill or to be buried',
        () =>
          Promise.resolve(!member.isAlive || herd.lines(({ op }) => op === 'dlq_seen').length > 0),
        120_000,
      )
      if (!member.isAlive) deaths++
    }
    expect(deaths).toBeGreaterThanOrEqual(3)
    expect(herd.lines(({ op }) => op === 'dlq_seen').map(({ msgId }) => msgId)).toEqual([killer])
    await herd.untilHandled(299)
  })
})

function deliveriesOf(herd: Herd, { proc }: Member): readonly (string | undefined)[] {
  const lines = herd.lines((entry) => entry.proc === proc && entry.op === 'deliver')
  return lines.map(({ msgId }) => msgId)
}

/** What is beside the committed offset has stood still for two looks: nothing is on its way there. */
async function untilCommitted(herd: Herd): Promise<void> {
  let last = ''
  let calm = 0
  await until(
    'the group to have committed what it did',
    async () => {
      await pause(500)
      const now = await committedBeside(herd)
      calm = now === last && now !== '' ? calm + 1 : 0
      last = now
      return calm >= 4
    },
    60_000,
  )
}

async function committedBeside({ groupId, topicName }: Herd): Promise<string> {
  const offsets = await withAdmin([node.broker], (admin) =>
    admin.fetchOffsets({ groupId, topics: [topicName] }),
  )
  return offsets[0]?.partitions.map(({ metadata }) => metadata ?? '').join(' ') ?? ''
}
