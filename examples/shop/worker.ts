/** One process of the shop: `node worker.js ROLE NAME FOLDER`. Started, and killed, by the demo. */
import { History } from './history.ts'
import { files, readSettings } from './settings.ts'
import { work, type Role } from './shop.ts'

const [role = 'relay', name = role, dir = '.'] = process.argv.slice(2)
const stop = new AbortController()
process.once('SIGTERM', () => stop.abort())
// Ctrl-C reaches the whole group; the demo decides what becomes of its processes.
process.on('SIGINT', () => undefined)
const orphaned = (): void => process.exit(1)
process.once('disconnect', orphaned)

const history = new History(files.history(dir, name), name)
history.write('info', { op: 'start' })
await work([role as Role], readSettings(dir), history, stop.signal)
// From here on only what was left open keeps the process alive: the demo would say so.
process.off('disconnect', orphaned)
process.disconnect?.()
