import { createRequire } from 'node:module'

import { AMQPClient } from '@cloudamqp/amqp-client'
import { connect as connectManager } from 'amqp-connection-manager'
import { connect } from 'amqplib'
import { Connection } from 'rabbitmq-client'

import type { PlainMessage } from './rabbitmq-message.ts'

const require = createRequire(import.meta.url)

/** A client that publishes persistent, mandatory messages and waits for the broker's confirm. */
export interface PlainClient {
  /** Resolves with the confirm. */
  publish(message: PlainMessage): Promise<unknown>
  close(): Promise<unknown>
}

/** Connects a client that publishes to one exchange. */
export type OpenClient = (url: string, exchange: string) => Promise<PlainClient>

/** By hand, the way amqplib connects by itself: with Nagle's algorithm. What all ratios are taken against. */
export const rawAmqplib: OpenClient = (url, exchange) => rawClient(url, exchange, false)

/** The same with noDelay: each message is a packet. */
const rawAmqplibNoDelay: OpenClient = (url, exchange) => rawClient(url, exchange, true)

async function rawClient(url: string, exchange: string, noDelay: boolean): Promise<PlainClient> {
  const connection = await connect(url, { noDelay })
  const channel = await connection.createConfirmChannel()
  const unroutable = new ReturnWatch()
  channel.on('return', unroutable.returned)
  return {
    publish: ({ routingKey, content, messageId, contentType, headers }) =>
      new Promise<void>((resolve, reject) => {
        channel.publish(
          exchange,
          routingKey,
          content,
          { persistent: true, mandatory: true, messageId, contentType, headers },
          (error: Error | null) => (error === null ? resolve() : reject(error)),
        )
      }),
    close: async () => {
      await connection.close()
      unroutable.check()
    },
  }
}

const connectionManager: OpenClient = async (url, exchange) => {
  const manager = connectManager([url])
  const channel = manager.createChannel({ confirm: true })
  await channel.waitForConnect()
  return {
    publish: ({ routingKey, content, messageId, contentType, headers }) =>
      channel.publish(exchange, routingKey, content, {
        persistent: true,
        mandatory: true,
        messageId,
        contentType,
        headers,
      }),
    close: async () => {
      await channel.close()
      await manager.close()
    },
  }
}

const rabbitmqClient: OpenClient = async (url, exchange) => {
  const connection = new Connection(url)
  await connection.onConnect(10_000)
  const publisher = connection.createPublisher({ confirm: true })
  return {
    publish: ({ routingKey, content, messageId, contentType, headers }) =>
      publisher.send(
        {
          exchange,
          routingKey,
          durable: true,
          mandatory: true,
          messageId,
          contentType,
          headers,
          // It would add the time of the day, which no other message has.
          timestamp: undefined as unknown as number,
        },
        content,
      ),
    close: async () => {
      await publisher.close()
      await connection.close()
    },
  }
}

const cloudamqp: OpenClient = async (url, exchange) => {
  const client = await new AMQPClient(url).connect()
  const channel = await client.channel()
  await channel.confirmSelect()
  return {
    publish: ({ routingKey, content, messageId, contentType, headers }) =>
      channel.basicPublish(
        exchange,
        routingKey,
        content,
        { deliveryMode: 2, messageId, contentType, headers },
        true,
      ),
    close: () => client.close(),
  }
}

/** The little of rascal that is used; it has no types. */
interface RascalBroker {
  publish(name: string, content: Buffer, overrides: object): Promise<RascalPublication>
  shutdown(): Promise<void>
}

interface RascalPublication {
  on(event: 'success' | 'return', listener: () => void): this
  on(event: 'error', listener: (error: Error) => void): this
}

interface Rascal {
  withDefaultConfig(config: object): object
  BrokerAsPromised: { create(config: object): Promise<RascalBroker> }
}

const rascal: OpenClient = async (url, exchange) => {
  const library = require('rascal') as Rascal
  const broker = await library.BrokerAsPromised.create(
    library.withDefaultConfig(rascalConfig(url, exchange)),
  )
  return {
    publish: async ({ routingKey, content, messageId, contentType, headers }) => {
      const options = { messageId, contentType, headers }
      const publication = await broker.publish('orders', content, { routingKey, options })
      return new Promise<void>((resolve, reject) => {
        publication.on('success', () => resolve())
        publication.on('error', (error) => reject(error))
        publication.on('return', () => reject(new Error('a message was returned')))
      })
    },
    close: () => broker.shutdown(),
  }
}

/** Publications are confirmed and persistent by rascal's own defaults; said all the same. */
function rascalConfig(url: string, exchange: string): object {
  const options = { persistent: true, mandatory: true }
  return {
    vhosts: {
      '/': {
        connection: { url },
        exchanges: { [exchange]: { assert: false, check: true } },
        publications: { orders: { exchange, confirm: true, options } },
      },
    },
  }
}

/** Messages that came back: publishing nothing would be fast. */
class ReturnWatch {
  #count = 0
  readonly returned = (): void => void this.#count++

  check(): void {
    if (this.#count > 0) throw new Error(`${this.#count} messages reached no queue`)
  }
}

/** All of them, by the names of their packages. */
export const clients: readonly (readonly [name: string, open: OpenClient])[] = [
  ['raw amqplib', rawAmqplib],
  ['raw amqplib, noDelay', rawAmqplibNoDelay],
  ['amqp-connection-manager', connectionManager],
  ['rabbitmq-client', rabbitmqClient],
  ['@cloudamqp/amqp-client', cloudamqp],
  ['rascal', rascal],
]
