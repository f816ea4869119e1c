/** Another program on the same file: takes the write lock through the driver alone and holds it. */
import { setTimeout as wait } from 'node:timers/promises'

import { loadDriver, type Connection } from '../../adapters/sqlite/driver.ts'
import { troubleOf } from '../../adapters/sqlite/errors.ts'
import { chance } from './rig/chance.ts'
import { childMain, type Duty } from './rig/child-main.ts'
import type { Journal } from './rig/journal.ts'

const AGAIN_MS = 2

/** Waits for its turn like everybody else, also to commit, and returns how often it had to. */
async function inTurn(connection: Connection, sql: string): Promise<number> {
  for (let busy = 0; ; busy++) {
    try {
      connection.exec(sql)
      return busy
    } catch (error) {
      if (troubleOf(error) !== 'busy') throw error
      await wait(AGAIN_MS)
    }
  }
}

async function begin(connection: Connection, journal: Journal): Promise<void> {
  const busy = await inTurn(connection, 'BEGIN IMMEDIATE')
  if (busy > 0) journal.write('lib_metric', 'ok', { name: 'busy', value: busy })
}

async function lock({ task, journal, stop }: Duty<'lock'>): Promise<void> {
  const { file, times, pauseMs, seed } = task
  const [least, most] = task.holdMs
  const draw = chance(seed)
  const connection = (await loadDriver('auto')).connect(file)
  for (let held = 0; (times === 0 || held < times) && !stop.aborted; held++) {
    await begin(connection, journal)
    journal.write('fault_start', 'ok', { name: 'lock' })
    await wait(least + draw() * (most - least))
    await inTurn(connection, 'COMMIT')
    journal.write('fault_stop', 'ok', { name: 'lock' })
    await wait(pauseMs)
  }
  connection.close()
}

await childMain('lock', lock)
