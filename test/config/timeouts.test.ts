import { describe, expect, it } from 'vitest'

import { memory, memoryDatabase, memoryOutbox } from '../../adapters/memory/index.ts'
import { connect } from '../../src/config/connect.ts'
import { ReliableConsumer } from '../../src/consume/consumer.ts'
import { OptionError } from '../../src/contract/errors.ts'
import { topic } from '../../src/contract/topic.ts'
import { ReliablePublisher } from '../../src/publish/publisher.ts'
import { OutboxRelay } from '../../src/publish/relay.ts'

type Call = (options: never) => Promise<unknown>

const broker = memory()
const outbox = memoryOutbox({ database: memoryDatabase() })
const handler = (): void => undefined
const publisher = new ReliablePublisher({ broker, logging: 'silent' })
const relay = new OutboxRelay({ broker, outbox, logging: 'silent' })
const consumer = new ReliableConsumer({
  broker,
  topic: topic('orders'),
  group: 'billing',
  handler,
  logging: 'silent',
})
const messaging = await connect({ broker: { use: 'memory' }, logging: 'silent' })

const calls: readonly (readonly [owner: string, name: string, call: Call])[] = [
  ['publisher', 'open', (options) => publisher.open(options)],
  ['publisher', 'flush', (options) => publisher.flush(options)],
  ['publisher', 'close', (options) => publisher.close(options)],
  ['relay', 'drain', (options) => relay.drain(options)],
  ['relay', 'close', (options) => relay.close(options)],
  ['consumer', 'start', (options) => consumer.start(options)],
  ['consumer', 'drain', (options) => consumer.drain(options)],
  ['consumer', 'close', (options) => consumer.close(options)],
  ['messaging', 'drain', (options) => messaging.drain(options)],
  ['messaging', 'close', (options) => messaging.close(options)],
]

describe.each(calls)('%s.%s()', (_, name, call) => {
  it.each([
    [null, `${name}: got null; allowed: an object`],
    [500, `${name}: got 500; allowed: an object`],
    [{ timeoutMs: '5s' }, `${name}.timeoutMs: got "5s"; allowed: a whole number`],
    [
      { timeout: 500 },
      `${name}.timeout: got 500; allowed: no option of that name, only: timeoutMs`,
    ],
  ])('refuses %o, naming what is allowed', async (options, text) => {
    const refused = await failure(async () => call(options as never))
    expect(refused).toBeInstanceOf(OptionError)
    expect((refused as OptionError).message).toContain(text)
  })

  it('is still to be called after that', async () => {
    expect(await failure(async () => call({ timeoutMs: 5_000 } as never))).toBeNull()
  })
})

/** What it throws or rejects with. */
async function failure(call: () => Promise<unknown>): Promise<unknown> {
  try {
    await call()
    return null
  } catch (error) {
    return error
  }
}
