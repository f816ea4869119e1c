/**
 * Takes the embedded broker away: holds the write lock of its file for a while, as any other
 * process with that file could. `node hold-lock.js FOLDER MILLISECONDS`
 */
import { setTimeout as sleep } from 'node:timers/promises'

import { History } from './history.ts'
import { files } from './settings.ts'
import { openPlain } from './sql.ts'

const [dir = '', ms = '0'] = process.argv.slice(2)
// The shop has gone: give the lock back at once.
process.once('disconnect', () => process.exit(1))

const history = new History(files.history(dir, 'outage'), 'outage')
const database = await openPlain(files.broker(dir), { readOnly: false, busyMs: 10_000 })
database.exec('BEGIN IMMEDIATE')
const from = performance.now()
history.write('invoke', { op: 'outage' })
await sleep(Number(ms))
database.exec('ROLLBACK')
history.write('ok', { op: 'outage', ms: Math.round(performance.now() - from) })
database.close()
process.disconnect?.()
