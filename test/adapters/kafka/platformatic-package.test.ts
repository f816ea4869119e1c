import { describe, expect, it } from 'vitest'

import { resolveOptions } from '../../../adapters/kafka/options.ts'
import { platformaticDriver } from '../../../adapters/kafka/platformatic-driver.ts'
import {
  loadPlatformatic,
  type Platformatic,
} from '../../../adapters/kafka/platformatic-package.ts'
import {
  ConnectionTrouble,
  platformaticTrouble,
} from '../../../adapters/kafka/platformatic-trouble.ts'
import { CapabilityError, HoldfastError } from '../../../src/contract/errors.ts'
import { systemClock, systemRandom } from '../../../src/contract/clock.ts'
import { noCrashes } from '../../../src/contract/crash-points.ts'
import { silent } from '../../../src/contract/events.ts'

const library = (clientSoftwareVersion?: string): (() => Promise<object>) => {
  return async () => ({
    Connection: Buffer,
    Writer: { create: () => null },
    clientSoftwareVersion,
  })
}

describe('@platformatic/kafka', () => {
  it.each(['2.12.1', '2.12.2', '2.13.0', '2.100.0'])('is taken in version %s', async (version) => {
    const loaded = await loadPlatformatic(library(version), '22.22.0')
    expect(loaded.clientSoftwareVersion).toBe(version)
  })

  it.each(['1.35.0', '2.3.0', '2.12.0', '3.0.0', '10.0.0', undefined])(
    'is refused in version %s',
    async (version) => {
      const loading = loadPlatformatic(library(version), '24.6.0')
      await expect(loading).rejects.toThrow(CapabilityError)
      await expect(loading).rejects.toThrow(/2\.12\.1 or later and before 3\.0\.0, and this is/)
    },
  )

  it.each(['20.19.0', '22.21.9', '18.0.0'])('is refused on Node %s', async (node) => {
    const loading = loadPlatformatic(library('2.12.1'), node)
    await expect(loading).rejects.toThrow(CapabilityError)
    await expect(loading).rejects.toThrow(`needs Node 22.22.0 or later, and this is ${node}`)
  })

  it('is asked for by name where it is not installed', async () => {
    const loading = loadPlatformatic(() => Promise.reject(new Error('not found')), '26.0.0')
    await expect(loading).rejects.toMatchObject({
      code: 'missing-package',
      message: expect.stringContaining('npm install @platformatic/kafka') as string,
    })
  })

  it('is looked at when a broker is opened, and no sooner', async () => {
    const { signal } = new AbortController()
    const own = { clock: systemClock, random: systemRandom, crash: noCrashes, emit: silent, signal }
    const options = resolveOptions({ brokers: '127.0.0.1:1', driver: 'platformatic' })
    const old = (): Promise<Platformatic> => loadPlatformatic(library('2.12.1'), '20.19.0')
    await expect(platformaticDriver(options, own, old)).rejects.toThrow(CapabilityError)
  })

  it('tells refused log-ins from lost connections, and passes on what is ours', () => {
    const login = Object.assign(new Error('no'), { code: 'PLT_KFK_AUTHENTICATION' })
    const outer = new Error('outer', { cause: login })
    expect(platformaticTrouble(outer)).toMatchObject({ name: 'LoginTrouble', message: 'no' })
    const lost = platformaticTrouble(new Error('outer', { cause: new Error('ECONNREFUSED') }))
    expect(lost).toMatchObject({ name: 'ConnectionTrouble', message: 'ECONNREFUSED' })
    expect(lost).toBeInstanceOf(ConnectionTrouble)
    const own = new HoldfastError('unavailable', 'no token')
    expect(platformaticTrouble(new Error('outer', { cause: own }))).toBe(own)
  })
})
