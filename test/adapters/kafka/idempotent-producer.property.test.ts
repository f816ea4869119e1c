import assert from 'node:assert/strict'

import fc from 'fast-check'
import { afterAll, beforeAll, describe, it } from 'vitest'

import type { Part, PartResult } from '../../../adapters/kafka/driver.ts'
import { kafkajsClient } from '../../../adapters/kafka/kafkajs-client.ts'
import { IdempotentProducer } from '../../../adapters/kafka/idempotent-producer.ts'
import { systemClock, systemRandom } from '../../../src/contract/clock.ts'
import { FakeCluster, type Fault } from './fake-cluster.ts'

const PARTITIONS = 4
/** Enough for what ends well, short enough for what never ends. */
const WITHIN_MS = 400

const faults: readonly (Fault | null | 'move')[] = [
  { answer: 'cut', stores: true },
  { answer: 'cut', stores: false },
  { answer: 'silent', stores: true },
  { code: 6, stores: true },
  { code: 6, stores: false },
  { code: 7, stores: true },
  { code: 10 },
  { code: 19 },
  { code: 20, stores: true },
  { code: 45 },
  { code: -1, stores: true },
  { omitted: true, stores: true },
  { omitted: true, stores: false },
  'move',
  null,
]

const fault = fc.oneof(
  { weight: 3, arbitrary: fc.constant(null) },
  { weight: 2, arbitrary: fc.constantFrom(...faults) },
)
/** One request after the other: partitions and how many records go to each. */
const requests = fc.array(
  fc.uniqueArray(fc.tuple(fc.nat({ max: PARTITIONS - 1 }), fc.integer({ min: 1, max: 3 })), {
    selector: ([partition]) => partition,
    minLength: 1,
    maxLength: 3,
  }),
  { minLength: 1, maxLength: 6 },
)

let cluster: FakeCluster
let made = 0

beforeAll(async () => {
  cluster = await FakeCluster.start(2)
})
afterAll(() => cluster.stop())

async function newProducer(): Promise<IdempotentProducer> {
  const times = { connectTimeoutMs: 1_000, requestTimeoutMs: 1_000 }
  const { brokers: addresses } = cluster
  const settings = { addresses, client: null, clientId: 'test', tls: null, sasl: null, ...times }
  const client = await kafkajsClient(settings, systemRandom)
  const clock = systemClock
  return new IdempotentProducer({ client, clock, random: systemRandom, codec: null, ...times })
}

/** Makes each request with the producer of the last one, or another where that is of no use any more. */
async function produceAll(
  topic: string,
  wanted: readonly (readonly (readonly [number, number])[])[],
): Promise<readonly (readonly [Part, PartResult])[]> {
  const all: (readonly [Part, PartResult])[] = []
  let producer = await newProducer()
  let number = 0
  for (const request of wanted) {
    if (!producer.usable) {
      await producer.close()
      producer = await newProducer()
    }
    const parts = request.map(([partition, count]): Part => {
      const records = Array.from({ length: count }, () => {
        return { key: null, value: Buffer.from(`v${number++}`), headers: [], timestampMs: null }
      })
      return { topic, partition, records }
    })
    const told: (PartResult | undefined)[] = []
    const results = await producer.produce(parts, systemClock.now() + WITHIN_MS, (at, result) => {
      assert.equal(told[at], undefined, 'told twice')
      told[at] = result
    })
    for (const [at, one] of told.entries()) if (one !== undefined) assert.equal(one, results[at])
    all.push(...parts.map((part, at) => [part, results[at] as PartResult] as const))
  }
  await producer.close()
  return all
}

function check(topic: string, all: readonly (readonly [Part, PartResult])[]): void {
  for (const [{ partition, records }, result] of all) {
    const log = cluster.log(topic, partition)
    const values = records.map(({ value }) => String(value))
    const places = values.map((value) => log.indexOf(value))
    const stored = places.filter((place) => place >= 0).length
    if (result.status === 'stored') {
      assert.equal(stored, values.length, `${String(values)} is not in the log`)
      if (result.baseOffset !== null) assert.equal(places[0], Number(result.baseOffset))
    }
    if (result.status === 'refused') assert.equal(stored, 0, `${String(values)} is in the log`)
  }
  for (let partition = 0; partition < PARTITIONS; partition++) {
    const numbers = cluster.log(topic, partition).map((value) => Number(value.slice(1)))
    const inOrder = [...new Set(numbers)].toSorted((one, other) => one - other)
    assert.deepEqual(numbers, inOrder, 'in order, and each once')
  }
}

describe('the producer, whatever the nodes answer', () => {
  it('says stored and refused truly, and stores nothing twice or later first', async () => {
    await fc.assert(
      fc.asyncProperty(
        requests,
        fc.array(fault, { minLength: 1, maxLength: 12 }),
        async (wanted, scripted) => {
          const topic = `t${made++}`
          cluster.topic(topic, 0, 0, 1, 1)
          let asked = 0
          cluster.faults = ({ partition, node }) => {
            // After the script all goes well, so that what is asked again ends.
            const one = scripted[asked++] ?? null
            if (one !== 'move') return one
            cluster.move(topic, partition, 1 - node)
            return null
          }
          check(topic, await produceAll(topic, wanted))
        },
      ),
      { numRuns: 60, endOnFailure: true },
    )
  })
})
