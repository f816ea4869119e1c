import { afterAll, describe, it } from 'vitest'

import type { Driver } from '../../../adapters/sqlite/driver.ts'
import { sqlite } from '../../../adapters/sqlite/index.ts'
import {
  brokerCases,
  inParallel,
  registerCases,
  type BrokerHarness,
} from '../../conformance/index.ts'
import { availableDrivers, scratch } from './scratch.ts'

const folder = scratch()
afterAll(() => folder.remove())

let files = 0

/** Somebody who knows nothing of the library, at the same file. */
function outside(driver: Driver, file: string, ...statements: readonly string[]): void {
  const connection = driver.connect(file)
  connection.exec('PRAGMA busy_timeout = 5000')
  try {
    for (const sql of statements) connection.exec(sql)
  } finally {
    connection.close()
  }
}

function harness(driver: Driver, name: string): BrokerHarness {
  const file = folder.file(`broker-${files++}.db`)
  const queue = (topic: string, group: string): string =>
    `(SELECT id FROM holdfast_queue WHERE topic = '${topic}' AND consumers = '${group}' AND kind = 0)`
  return {
    name: `${name} with ${driver.name}`,
    connect: () => sqlite({ file, driver: driver.name }),
    patience: 3,
    shortRetryMs: 60,
    faults: {
      loseSource: (topic, group) =>
        outside(
          driver,
          file,
          `UPDATE holdfast_lease SET owner = 'somebody else', epoch = epoch + 1, expires_at = 0 WHERE scope = ${queue(topic, group)}`,
        ),
      deleteDestination: (topic, group) =>
        outside(driver, file, `DELETE FROM holdfast_queue WHERE id = ${queue(topic, group)}`),
    },
  }
}

const runner = { describe, it }

for (const driver of await availableDrivers()) {
  await registerCases(brokerCases, runner, () => harness(driver, 'sqlite'))
  await registerCases(inParallel(brokerCases, 20), runner, () =>
    harness(driver, 'sqlite, 20 at once'),
  )
}
