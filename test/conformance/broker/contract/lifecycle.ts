import assert from 'node:assert/strict'

import type { BrokerState } from '../../../../src/contract/broker.ts'
import type { Case } from '../../case.ts'
import { ackAtOnce, declared, type Connection } from '../connection.ts'
import { draft, run } from '../envelopes.ts'
import type { BrokerHarness } from '../harness.ts'
import { fault } from '../needs.ts'
import { brokerCase } from '../stage.ts'

/** Opening, declaring, telling how it is, closing. */
export const lifecycleCases: readonly Case<BrokerHarness>[] = [
  brokerCase('opens once: a second call gives the same capabilities', [], async (stage) => {
    const connection = await stage.connect()
    const again = await stage.within('open()', connection.broker.open(connection.context))
    assert.equal(again, connection.capabilities)
  }),

  brokerCase('says something true about itself', [], async (stage) => {
    const { capabilities, broker } = await stage.connect()
    assert.ok(broker.name.length > 0)
    assert.ok(capabilities.ordering.length > 0)
    assert.ok(capabilities.limits('conformance').maxBodyBytes > 0)
    assert.ok(capabilities.hold.maxMessages > 0)
    assert.ok(capabilities.hold.maxMs > 0)
    assert.ok(capabilities.progress.maxHoles >= 0)
  }),

  brokerCase('declares twice what it declares once', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    await connection.confirmed(run(topic, null, 3))
    await connection.declare({ name: topic })
    const listener = await connection.listen(topic, { onReceived: ackAtOnce })
    await stage.eventually(
      () => `${listener.received.length} of 3 arrived after declaring again`,
      () => listener.received.length === 3,
    )
  }),

  brokerCase('verifies without creating', [], async (stage) => {
    const connection = await stage.connect()
    const name = stage.topicName()
    assert.ok((await errors(connection, name)).length > 0, 'the topic does not exist yet')
    assert.ok((await errors(connection, name)).length > 0, 'verify created it')
    await connection.declare({ name })
    assert.deepEqual(await errors(connection, name), [])
    assert.ok((await errors(connection, name, 'b')).length > 0, 'group b does not exist')
  }),

  brokerCase('audits without an error what it just declared', [], async (stage) => {
    const connection = await stage.connect()
    const name = await stage.topic(connection)
    const findings = await stage.within(
      'audit()',
      connection.broker.audit({ topics: [declared(connection.capabilities, { name })] }),
    )
    for (const { code, subject, message } of findings) {
      assert.ok(code.length > 0 && subject.length > 0 && message.length > 0)
    }
  }),

  brokerCase('tells its state at once and until told to stop', [], async (stage) => {
    const { broker } = await stage.connect()
    const heard: BrokerState[] = []
    const stop = broker.onState((state) => heard.push(state))
    assert.equal(heard[0]?.status, 'up')
    stop()
    stop()
    const before = heard.length
    await broker.close(stage.deadline())
    assert.equal(heard.length, before, 'a listener was called after it had stopped')
  }),

  brokerCase(
    'tells that the broker is away, and that it is back',
    [fault('restart')],
    async (stage) => {
      const { broker } = await stage.connect()
      const heard: BrokerState['status'][] = []
      stage.afterwards(broker.onState(({ status }) => void heard.push(status)))
      await stage.fault('restart')()
      // A broker without a server is not down while another process has its lock: it is blocked.
      const wasAway = (): boolean => heard.includes('down') || heard.includes('blocked')
      await stage.eventually(
        () => `states: ${heard.join(', ')}`,
        () => wasAway() && heard.at(-1) === 'up',
      )
    },
  ),

  brokerCase('closes twice, and with it what is still open', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const listener = await connection.listen(topic, { onReceived: ackAtOnce })
    const watch = connection.start(run(topic, null, 50))
    await stage.within('close()', connection.broker.close(stage.deadline()))
    assert.equal(watch.open, 0, 'close() has to answer for every envelope')
    watch.senderClosed()
    const before = listener.received.length
    await stage.within('the second close()', connection.broker.close(stage.deadline()))
    const other = await stage.connect()
    await other.confirmed([draft(topic)])
    await stage.quiet('a closed broker delivered', () => listener.received.length - before)
  }),

  brokerCase('closes one connection without touching another', [], async (stage) => {
    const one = await stage.connect()
    const other = await stage.connect()
    const topic = await stage.topic(one)
    const listener = await other.listen(topic, { onReceived: ackAtOnce })
    await one.close()
    await other.confirmed(run(topic, null, 5))
    await stage.eventually(
      () => `${listener.received.length} of 5 arrived`,
      () => listener.received.length === 5,
    )
  }),
]

async function errors(
  connection: Connection,
  name: string,
  group = 'a',
): Promise<readonly string[]> {
  const findings = await connection.provision({ name, groups: [group] }, 'verify')
  return findings.filter(({ severity }) => severity === 'error').map(({ code }) => code)
}
