/**
 * Another program at a database file: takes its write lock when told 'take', lets go of it when told
 * 'give', and answers with the same word. Knows nothing of the library, only the driver.
 */
import { on } from 'node:events'
import { setTimeout as wait } from 'node:timers/promises'

const [driver, file] = process.argv.slice(2)
const AGAIN_MS = 1

async function connect() {
  if (driver === 'node:sqlite') {
    const { DatabaseSync } = await import('node:sqlite')
    return new DatabaseSync(file)
  }
  const { default: BetterSqlite3 } = await import('better-sqlite3')
  return new BetterSqlite3(file, { timeout: 0 })
}

function isBusy({ errcode, code }) {
  return errcode === 5 || code === 'SQLITE_BUSY'
}

/** Waits for its turn like everybody else. */
async function take(database) {
  for (;;) {
    try {
      return void database.exec('BEGIN EXCLUSIVE')
    } catch (error) {
      if (!isBusy(error)) throw error
      await wait(AGAIN_MS)
    }
  }
}

const database = await connect()
database.exec('PRAGMA busy_timeout = 0')
process.once('disconnect', () => process.exit())
const words = on(process, 'message')
process.send('ready')
for await (const [word] of words) {
  if (word === 'take') await take(database)
  else database.exec('ROLLBACK')
  process.send(word)
}
