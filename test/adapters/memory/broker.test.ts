import { expect, it } from 'vitest'

import { memory } from '../../../adapters/memory/index.ts'
import type { Delivery, DeliverySink, SendOutcome } from '../../../src/contract/broker.ts'
import { noCrashes } from '../../../src/contract/crash-points.ts'
import { silent } from '../../../src/contract/events.ts'
import { systemClock, systemRandom } from '../../../src/contract/clock.ts'

it('runs', async () => {
  const broker = memory()
  await broker.open({
    clock: systemClock,
    random: systemRandom,
    crash: noCrashes,
    emit: silent,
    signal: new AbortController().signal,
  })
  await broker.provision(
    {
      topics: [{ name: 't', groups: ['a'], partitions: null, ordering: 'none', retryLevelsMs: [] }],
    },
    'create',
  )
  const got: Delivery[] = []
  const sink: DeliverySink = {
    deliver: (_, b) => {
      got.push(...b)
      for (const d of b) d.ack()
    },
    revoking: async () => {},
    lost() {},
    ended() {},
  }
  await broker.receive(
    {
      topics: ['t'],
      group: 'a',
      ordering: 'none',
      from: 'now',
      maxHeld: { messages: 10, bytes: 1e6 },
    },
    sink,
  )
  const out: SendOutcome[] = []
  broker.sender('publish').send(
    Array.from({ length: 100 }, (_, n) => ({
      id: `${n}`,
      type: null,
      producer: null,
      to: { kind: 'topic', topic: 't' },
      key: null,
      orderKey: null,
      body: Buffer.from(`${n}`),
      headers: [],
      contentType: null,
      timeMs: null,
      deliverAtMs: null,
    })),
    systemClock.now() + 1000,
    (f, t, o) => {
      for (; f < t; f++) out.push(o)
    },
  )
  await broker.settled()
  expect(out.length).toBe(100)
  expect(got.length).toBe(100)
  await broker.close(systemClock.now() + 100)
})
