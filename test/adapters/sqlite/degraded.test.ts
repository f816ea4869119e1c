import { expect, it } from 'vitest'

import { WriterHealth } from '../../../adapters/sqlite/writer-health.ts'
import type { BrokerState } from '../../../src/contract/broker.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'
import { OpenedFiles } from './opened-files.ts'
import { context, envelopes, openBroker, send, take } from './stage.ts'

const files = new OpenedFiles()

it('a broker is degraded when nothing could be settled for 30 s, until something can', async () => {
  const file = files.next()
  const clock = new VirtualClock()
  const around = { ...context(), clock }
  const broker = await clock.run(openBroker({ file }, around))
  const states: BrokerState[] = []
  broker.onState((state) => void states.push(state))
  await clock.run(send(broker.sender('publish'), envelopes(['a'])))
  const taker = await take(broker)
  await clock.until(() => taker.deliveries.length === 1)
  files.exec(
    file,
    "CREATE TRIGGER stuck BEFORE DELETE ON holdfast_message BEGIN SELECT RAISE(ABORT, 'stuck'); END",
  )
  const ackedAt = clock.now()
  taker.deliveries[0]?.ack()
  await clock.advance(29_900)
  expect(states.map(({ status }) => status)).toEqual(['up'])
  await clock.advance(500)
  expect(states.map(({ status }) => status)).toEqual(['up', 'degraded'])
  expect(states[1]?.reason).toMatch(/nothing could be settled for 30 s: .*stuck/)
  // Others still can write: it is not for them to heal what is not theirs.
  const others = clock.run(send(broker.sender('publish'), envelopes(['b']), 60_000))
  expect((await others)[0]?.status).toBe('confirmed')
  expect(states.at(-1)?.status).toBe('degraded')
  files.exec(file, 'DROP TRIGGER stuck')
  await clock.run(taker.receiver.flush(clock.now() + 5_000))
  expect(clock.now() - ackedAt).toBeGreaterThan(30_000)
  expect(states.map(({ status }) => status)).toEqual(['up', 'degraded', 'up'])
  await clock.run(broker.close(clock.now() + 5_000))
  expect(clock.timers).toBe(0)
})

it('a file is degraded once, however many cannot settle, and until the last of them can', () => {
  const health = new WriterHealth()
  const states: string[] = []
  health.onChange(({ status }) => void states.push(status))
  const [one, other] = [{}, {}]
  health.degraded(one, 'no room')
  health.degraded(other, 'no room')
  health.degraded(other, 'no room')
  health.mended(one)
  expect(states).toEqual(['degraded'])
  health.mended(other)
  health.mended(other)
  expect(states).toEqual(['degraded', 'up'])
})

it('a file that cannot be written is down or blocked, not degraded', () => {
  const health = new WriterHealth()
  const states: string[] = []
  health.onChange(({ status }) => void states.push(status))
  health.degraded({}, 'no room')
  health.busy(5_000)
  health.down('the disk is gone')
  health.up()
  expect(states).toEqual(['degraded', 'blocked', 'down', 'degraded'])
})
