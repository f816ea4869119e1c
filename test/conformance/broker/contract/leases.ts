import assert from 'node:assert/strict'

import type { Case } from '../../case.ts'
import { ackAtOnce } from '../connection.ts'
import { draft } from '../envelopes.ts'
import type { BrokerHarness } from '../harness.ts'
import { deliveryLeases } from '../needs.ts'
import { brokerCase } from '../stage.ts'

/** Deliveries that are their holder's for a time only, unless it asks for more. */
export const leaseCases: readonly Case<BrokerHarness>[] = [
  brokerCase('offers extend() exactly where deliveries are leased', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const listener = await connection.listen(topic)
    await connection.confirmed([draft(topic)])
    await stage.eventually(
      () => 'nothing arrived',
      () => listener.received.length > 0,
    )
    const offered = listener.received[0]?.delivery.extend !== undefined
    assert.equal(offered, stage.harness.deliveryLeaseMs !== undefined, 'harness.deliveryLeaseMs')
  }),

  brokerCase(
    'leaves a delivery to its holder for as long as it was extended',
    [deliveryLeases],
    async (stage) => {
      const leaseMs = stage.harness.deliveryLeaseMs ?? 0
      const connections = [await stage.connect(), await stage.connect()] as const
      const topic = await stage.topic(connections[0])
      const listeners = await Promise.all(connections.map((one) => one.listen(topic)))
      const came = (): number => listeners.reduce((sum, { received }) => sum + received.length, 0)
      await connections[0].confirmed([draft(topic)])
      await stage.eventually(
        () => 'nothing arrived',
        () => came() > 0,
      )
      const holder = listeners.find(({ received }) => received.length > 0)
      const held = holder?.received[0]
      held?.delivery.extend?.(leaseMs * 4)
      await stage.quiet('it came again although it was extended', came, leaseMs * 2)
      if (held !== undefined) holder?.ack(held)
      await holder?.receiver.flush(stage.deadline())
      await Promise.all(connections.map((one) => one.close()))
      const next = await (await stage.connect()).listen(topic, { onReceived: ackAtOnce })
      await stage.quiet('its ack did not count', () => next.received.length, leaseMs * 2)
    },
  ),
]
