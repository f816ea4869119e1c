import { describe, expectTypeOf, it } from 'vitest'
import {
  memory,
  memoryInbox,
  memoryOutbox,
  type MemoryTransaction,
} from '../../adapters/memory/index.ts'
import { topic, type Topic } from '../../src/contract/topic.ts'
import { ReliableConsumer } from '../../src/consume/consumer.ts'
import { isOf, type Message } from '../../src/consume/message.ts'
import { z } from 'zod'

interface Order {
  readonly id: string
}
interface Refund {
  readonly cents: number
}
const Orders: Topic<Order> = topic<Order>('orders')
const Refunds: Topic<Refund> = topic<Refund>('refunds')
const Dated = topic('dated', {
  schema: z.object({ at: z.string().transform((text) => text.length) }),
})
const broker = memory()
const group = 'billing'

/** Compiled, never started: what a consumer says about types. */
describe('the types of a consumer', () => {
  it('give the handler the payload of the topic', () => {
    new ReliableConsumer({
      broker,
      group,
      topic: Orders,
      handler: (order, context) => {
        expectTypeOf(order).toEqualTypeOf<Order>()
        expectTypeOf(context.message).toEqualTypeOf<Message<Order>>()
      },
    })
  })

  it('give the handler the output of the schema', () => {
    new ReliableConsumer({
      broker,
      group,
      topic: Dated,
      handler: (dated) => expectTypeOf(dated).toEqualTypeOf<{ at: number }>(),
    })
  })

  it('give the handler of several topics the union', () => {
    new ReliableConsumer({
      broker,
      group,
      topic: [Orders, Refunds],
      handler: (payload, { message }) => {
        expectTypeOf(payload).toEqualTypeOf<Order | Refund>()
        if (isOf(message, Refunds)) expectTypeOf(message.payload).toExtend<Refund>()
      },
    })
  })

  it('have no transaction without an inbox', () => {
    new ReliableConsumer({
      broker,
      group,
      topic: Orders,
      handler: (_order, context) => {
        // @ts-expect-error: there is no inbox, so there is no transaction
        return context.tx as unknown
      },
    })
    new ReliableConsumer({
      broker,
      group,
      topic: Orders,
      outbox: memoryOutbox(),
      handler: (_order, context) => {
        // @ts-expect-error: an outbox alone opens no transaction
        return context.tx as unknown
      },
    })
  })

  it('have the transaction of the inbox', () => {
    const inbox = memoryInbox()
    const outbox = memoryOutbox({ database: inbox.database })
    new ReliableConsumer({
      broker,
      group,
      topic: Orders,
      inbox,
      outbox,
      middleware: [(context, next) => (context.tx === undefined ? undefined : next())],
      handler: (_order, { tx }) => expectTypeOf(tx).toEqualTypeOf<MemoryTransaction>(),
    })
  })

  it('give a batch handler messages, and refuse it a single payload', () => {
    new ReliableConsumer({
      broker,
      group,
      topic: Orders,
      inbox: memoryInbox(),
      batch: { maxMessages: 10, maxWaitMs: 10 },
      handler: (messages, { tx }) => {
        expectTypeOf(messages).toEqualTypeOf<readonly Message<Order>[]>()
        expectTypeOf(tx).toEqualTypeOf<MemoryTransaction>()
        return { failed: [{ message: messages[0]!, error: new Error('no') }] }
      },
    })
  })

  it('check what is published', () => {
    new ReliableConsumer({
      broker,
      group,
      topic: Orders,
      handler: async (_order, context) => {
        await context.publish(Refunds, { cents: 1 })
        // @ts-expect-error: not a refund
        await context.publish(Refunds, { id: 'x' })
      },
    })
  })
})
