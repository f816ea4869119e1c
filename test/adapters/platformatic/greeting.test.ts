import { expect, it } from 'vitest'

import { openBehind } from '../../brokers/kafka-behind.ts'
import { sharedKafka } from '../../brokers/shared-kafka.ts'
import { keyed, SendingPlace } from '../kafka/sending-place.ts'

const node = await sharedKafka()

it('has not written to a port that is open with no broker behind it', async () => {
  const behind = await openBehind([node])
  const times = { requestTimeoutMs: 1_000, connectTimeoutMs: 1_000 }
  const at = await SendingPlace.open({ brokers: behind.brokers, ...times }, [node.broker])
  try {
    const topic = await at.topic()
    at.send(keyed(topic, 'a', 3, 1))
    await at.idle()
    const [proxy] = behind.proxies
    const silence = proxy!.halfOpen()
    proxy!.reset()
    // The client is this process, at the other end of the connections.
    for (let round = 0; round < 10; round++) await new Promise(setImmediate)
    at.send(keyed(topic, 'b', 3, 1), 2_500)
    await at.idle()
    expect(silence.fired).toBeGreaterThan(0)
    expect(at.summary).toEqual({ confirmed: 3, 'refused not-sent': 3 })
    silence.heal()
    at.send(keyed(topic, 'c', 3, 1))
    await at.idle()
    expect(at.summary).toEqual({ confirmed: 6, 'refused not-sent': 3 })
    expect(await at.read(topic)).toHaveLength(6)
    expect(at.breaches).toEqual([])
  } finally {
    await at.close()
    await behind.close()
  }
})
