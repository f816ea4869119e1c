import { afterAll, describe, it } from 'vitest'

import type { Connection, Driver } from '../../../adapters/sqlite/driver.ts'
import { sqlite } from '../../../adapters/sqlite/index.ts'
import {
  brokerCases,
  inParallel,
  registerCases,
  type BrokerFaults,
  type BrokerHarness,
  type Case,
} from '../../conformance/index.ts'
import { LostAnswers } from './lost-answers.ts'
import { Outage } from './outage.ts'
import { availableDrivers, scratch } from './scratch.ts'

const folder = scratch()
const outages: Outage[] = []
afterAll(async () => {
  await Promise.all(outages.map((outage) => outage.close()))
  folder.remove()
})

let files = 0
const nextFile = (): string => folder.file(`broker-${files++}.db`)

/** Somebody who knows nothing of the library, at the same file. */
function outside(driver: Driver, file: string, work: (connection: Connection) => void): void {
  const connection = driver.connect(file)
  connection.exec('PRAGMA busy_timeout = 5000')
  try {
    work(connection)
  } finally {
    connection.close()
  }
}

const queue = (topic: string, group: string): string =>
  `(SELECT id FROM holdfast_queue WHERE topic = '${topic}' AND consumers = '${group}' AND kind = 0)`

/**
 * There is no `stall`: all destinations of a broker are in one file, behind one lock and one COMMIT, so
 * that nothing can hold up one of them alone. `neverWrite` needs the file locked from outside, see
 * test/process/sqlite-conformance.test.ts.
 */
function faults(driver: Driver, file: string): BrokerFaults {
  const outage = new Outage(driver, file)
  outages.push(outage)
  const change = (sql: string): void => outside(driver, file, (connection) => connection.exec(sql))
  return {
    restart: () => outage.happen(),
    loseSource: (topic, group) =>
      change(
        `UPDATE holdfast_lease SET owner = 'somebody else', epoch = epoch + 1, expires_at = 0 WHERE scope = ${queue(topic, group)}`,
      ),
    deleteDestination: (topic, group) =>
      change(`DELETE FROM holdfast_queue WHERE id = ${queue(topic, group)}`),
  }
}

function harness(driver: Driver, name: string, file: string = nextFile()): BrokerHarness {
  return {
    name: `${name} with ${driver.name}`,
    connect: () => sqlite({ file, driver: driver.name }),
    patience: 3,
    shortRetryMs: 60,
    asksBack: true,
    faults: faults(driver, file),
  }
}

/** Only for one case at a time: the answer of a COMMIT is lost for everybody who is part of it. */
function losingAnswers(driver: Driver, name: string): BrokerHarness {
  const file = nextFile()
  const answers = new LostAnswers(file)
  const loseConfirm = (topic: string, count: number): void =>
    outside(driver, file, (connection) => answers.want(connection, topic, count))
  const whole = harness(driver, name, file)
  return { ...whole, faults: { ...whole.faults, loseConfirm } }
}

/** The cases that need a lost answer, each time with a file of their own. */
function apart(driver: Driver): readonly Case<BrokerHarness>[] {
  return brokerCases
    .filter(({ needs }) => needs.some(({ what }) => what === 'the fault loseConfirm'))
    .map((one) => {
      // Twenty files share no COMMIT, so all of their fsyncs are waited for one after the other.
      const ownFile = (): BrokerHarness => ({ ...losingAnswers(driver, 'one of 20'), patience: 10 })
      return { ...one, run: () => one.run(ownFile()) }
    })
}

const runner = { describe, it }

for (const driver of await availableDrivers()) {
  await registerCases(brokerCases, runner, () => losingAnswers(driver, 'sqlite'))
  await registerCases(inParallel(brokerCases, 20), runner, () =>
    harness(driver, 'sqlite, 20 at once'),
  )
  await registerCases(inParallel(apart(driver), 20), runner, () =>
    losingAnswers(driver, 'sqlite, 20 files at once'),
  )
}
