import { Socket } from 'node:net'

import { expect, it } from 'vitest'

import { kafkajsClient } from '../../../adapters/kafka/kafkajs-client.ts'
import { resolveOptions, type KafkajsClient } from '../../../adapters/kafka/options.ts'
import { systemRandom } from '../../../src/contract/clock.ts'

it('leaves nothing on sockets that died, however often their node is tried', async () => {
  const socket = new Socket()
  const connection = {
    socket,
    // As kafkajs does it.
    disconnect: async () => void connection.socket.end().unref(),
  }
  const createBroker = (): void => undefined
  const cluster = { brokerPool: { createBroker }, targetTopics: new Set() }
  const client = { [Symbol('private:Kafka:createCluster')]: () => cluster }
  const options = {
    ...resolveOptions({ brokers: ['x:1'] }),
    client: client as unknown as KafkajsClient,
  }
  const made = await kafkajsClient(options, systemRandom)
  const [symbol] = Object.getOwnPropertySymbols(made)
  const create = (made as unknown as Record<symbol, () => typeof cluster>)[symbol!]!
  const given = { connectionPool: { pool: [connection] } }
  ;(create().brokerPool.createBroker as (one: object) => void)(given)
  socket.destroy()
  for (let n = 0; n < 20; n++) await connection.disconnect()
  expect(socket.listenerCount('connect')).toBe(0)
})
