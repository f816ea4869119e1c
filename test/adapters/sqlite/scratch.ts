import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { loadDriver, type Driver, type DriverName } from '../../../adapters/sqlite/driver.ts'

/** A folder that `afterAll` or `afterEach` removes with `remove()`. */
export interface Scratch {
  /** Path of a file in it. */
  file(name: string): string
  remove(): void
}

export function scratch(): Scratch {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-test-'))
  return {
    file: (name) => join(folder, name),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  }
}

/** The drivers this Node can load; at least one, or the tests fail. */
export async function availableDrivers(): Promise<readonly Driver[]> {
  const names: readonly DriverName[] = ['node:sqlite', 'better-sqlite3']
  const loaded = await Promise.allSettled(names.map(open))
  const drivers = loaded.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
  if (drivers.length === 0)
    throw new Error("no SQLite driver: run 'node scripts/sqlite-driver.mjs'")
  return drivers
}

async function open(name: DriverName): Promise<Driver> {
  const driver = await loadDriver(name)
  // The native part of better-sqlite3 is loaded by the first connection.
  driver.connect(':memory:').close()
  return driver
}
