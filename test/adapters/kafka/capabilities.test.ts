import { describe, expect, it } from 'vitest'

import { capabilitiesOf } from '../../../adapters/kafka/capabilities.ts'
import type { DriverCaps } from '../../../adapters/kafka/driver.ts'

const KAFKAJS: DriverCaps = {
  idempotent: true,
  txn: 'none',
  commitMetadata: true,
  partitionPause: true,
  staticMembership: false,
}
const OTHER: DriverCaps = {
  ...KAFKAJS,
  txn: 'fenced',
  commitMetadata: false,
  partitionPause: false,
}
const unknown = () => null
const NO_LIMIT = { maxBodyBytes: null }

describe('the capabilities of kafka', () => {
  it('are those of the clients', () => {
    const kafkajs = capabilitiesOf({ producer: KAFKAJS, consumer: KAFKAJS }, NO_LIMIT, unknown)
    expect(kafkajs).toMatchObject({
      atomicPublish: 'none',
      pause: 'source',
      progress: { outOfOrder: 'encoded', maxHoles: 1_400 },
      keyRunsInOneSend: true,
    })
    const other = capabilitiesOf({ producer: OTHER, consumer: OTHER }, NO_LIMIT, unknown)
    expect(other).toMatchObject({
      atomicPublish: 'prefix',
      pause: 'all',
      progress: { outOfOrder: 'none' },
    })
    const mixed = capabilitiesOf({ producer: OTHER, consumer: KAFKAJS }, NO_LIMIT, unknown)
    expect(mixed).toMatchObject({ atomicPublish: 'none', pause: 'source' })
    const consuming = capabilitiesOf({ producer: KAFKAJS, consumer: OTHER }, NO_LIMIT, unknown)
    expect(consuming).toMatchObject({ atomicPublish: 'prefix' })
  })

  it('say why there are no transactions', () => {
    const why = 'it does not fence'
    const consumer = { ...KAFKAJS, whyNotFenced: why }
    const refused = capabilitiesOf({ producer: KAFKAJS, consumer }, NO_LIMIT, unknown)
    expect(refused).toMatchObject({ atomicPublish: 'none', whyNotAtomic: why })
    const offered = capabilitiesOf({ producer: KAFKAJS, consumer: OTHER }, NO_LIMIT, unknown)
    expect(offered.whyNotAtomic).toBeUndefined()
  })

  it('leave room for headers below what a topic takes', () => {
    const caps = { producer: KAFKAJS, consumer: KAFKAJS }
    const layout = { topic: 't', leaders: [1], maxMessageBytes: 10_000, compression: 'producer' }
    const of = (maxBodyBytes: number | null, known: typeof layout | null) =>
      capabilitiesOf(caps, { maxBodyBytes }, () => known).limits('t').maxBodyBytes
    expect(of(null, layout)).toBe(5_904)
    expect(of(null, null)).toBe(1_044_492)
    expect(of(1_000, layout)).toBe(1_000)
    expect(of(9_000, layout)).toBe(5_904)
    expect(of(null, { ...layout, maxMessageBytes: 100 })).toBe(1)
  })
})
