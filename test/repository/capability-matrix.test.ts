import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { afterAll, describe, expect, it } from 'vitest'

import { type Broker, type Capabilities, noCrashes, systemClock, systemRandom } from 'holdfast'
import { memory } from 'holdfast/memory'
import { sqlite } from 'holdfast/sqlite'

import { kafkajsDriver } from '../../adapters/kafka/kafkajs-driver.ts'
import { capabilitiesOf as kafkaCapabilities } from '../../adapters/kafka/capabilities.ts'
import { resolveOptions as kafkaOptions } from '../../adapters/kafka/options.ts'
import { capabilitiesOf } from '../../adapters/rabbitmq/capabilities.ts'
import { resolveOptions } from '../../adapters/rabbitmq/options.ts'
import { silent } from '../../src/contract/events.ts'

const folder = mkdtempSync(join(tmpdir(), 'holdfast-matrix-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const brokers: Readonly<Record<string, () => Promise<Capabilities>>> = {
  memory: () => capabilities(memory()),
  sqlite: () => capabilities(sqlite({ file: join(folder, 'broker.db') })),
  // What it says depends on options and version alone; that it says so when it is open is its own test.
  rabbitmq: async () => capabilitiesOf(resolveOptions({ url: 'amqp://localhost' }), [4, 3, 0]),
  kafka: async () => {
    const options = kafkaOptions({ brokers: 'localhost' })
    const signal = new AbortController().signal
    const context = { clock: systemClock, random: systemRandom, crash: noCrashes, emit: silent }
    const { caps } = await kafkajsDriver(options, { ...context, signal })
    return kafkaCapabilities({ producer: caps, consumer: caps }, options, () => null)
  },
}

/** The README's table as rows of cells. */
const rows = readFileSync(new URL('../../README.md', import.meta.url), 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('|'))
  .map((line) =>
    line
      .slice(1, -1)
      .split('|')
      .map((cell) => cell.trim()),
  )

function told(broker: string): Readonly<Record<string, string>> {
  const head = rows.find(([first]) => first === 'Capability') ?? []
  const column = head.indexOf(broker)
  const table = rows.slice(rows.indexOf(head) + 2)
  return Object.fromEntries(table.map((cells) => [cells[0] ?? '', cells[column] ?? '']))
}

async function capabilities(broker: Broker): Promise<Capabilities> {
  const context = { clock: systemClock, random: systemRandom, crash: noCrashes, emit: silent }
  const kept = await broker.open({ ...context, signal: new AbortController().signal })
  await broker.close(systemClock.now() + 5_000)
  return kept
}

const yesOrNo = (value: unknown): string => (value === false || value === null ? 'no' : 'yes')

describe("the README's capability matrix", () => {
  it.each(Object.keys(brokers))('is what the broker says: %s', async (name) => {
    const kept = await (brokers[name] as () => Promise<Capabilities>)()
    const headers = Object.entries(kept.headers).filter(([, carried]) => carried)
    expect(told(name)).toMatchObject({
      ordering: kept.ordering.join(', '),
      retryDelay: kept.retryDelay,
      attemptCount: kept.attemptCount,
      atomicPublish: kept.atomicPublish,
      pause: kept.pause,
      'hold.isolation': kept.hold.isolation,
      'progress.outOfOrder': kept.progress.outOfOrder,
      headers: headers.map(([what]) => what).join(', '),
      tombstones: yesOrNo(kept.tombstones),
      scheduledSend: yesOrNo(kept.scheduledSend),
    })
  })
})
