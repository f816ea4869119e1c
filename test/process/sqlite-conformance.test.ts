import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { afterAll, describe, it } from 'vitest'

import type { Driver } from '../../adapters/sqlite/driver.ts'
import { sqlite } from '../../adapters/sqlite/index.ts'
import { availableDrivers, scratch } from '../adapters/sqlite/scratch.ts'
import { brokerCases, registerCases, type BrokerHarness, type Case } from '../conformance/index.ts'

const LEASE_MS = 1_000
const module = join(
  fileURLToPath(new URL('../../dist/', import.meta.url)),
  'adapters/sqlite/index.js',
)
const folder = scratch()
afterAll(() => folder.remove())

/** Holds the file's one write lock, as any other process could, until healed. */
function lock(driver: Driver, file: string): () => void {
  const connection = driver.connect(file)
  connection.exec('PRAGMA busy_timeout = 5000')
  connection.exec('BEGIN IMMEDIATE')
  let isHeld = true
  return () => {
    if (!isHeld) return
    isHeld = false
    connection.exec('ROLLBACK')
    connection.close()
  }
}

function harness(driver: Driver, what: string): BrokerHarness {
  const file = folder.file(`${driver.name.replace(':', '-')}-${what}.db`)
  const options = { file, driver: driver.name, leaseMs: LEASE_MS, maxBodyBytes: 4_194_304 }
  return {
    name: `sqlite with ${driver.name}, ${what}`,
    connect: () => sqlite(options),
    patience: 6,
    shortRetryMs: 60,
    takeoverMs: LEASE_MS,
    ...(what === 'in several processes'
      ? { secondProcess: { module, name: 'sqlite', options } }
      : { faults: { neverWrite: () => lock(driver, file) } }),
  }
}

/** The cases that need what only this harness has; the others run elsewhere. */
function needing(what: RegExp): readonly Case<BrokerHarness>[] {
  return brokerCases.filter(({ needs }) => needs.some((need) => what.test(need.what)))
}

for (const driver of await availableDrivers()) {
  await registerCases(needing(/second process/), { describe, it }, () =>
    harness(driver, 'in several processes'),
  )
  await registerCases(needing(/neverWrite/), { describe, it }, () =>
    harness(driver, 'locked from outside'),
  )
}
