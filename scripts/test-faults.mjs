/**
 * Runs the fault tests, one file after another, within a budget: `--for 35m` (the default).
 *
 * They begin with another file each time, so that runs that are too short for all of them see all of
 * them in turn: `--seed N`, which is printed, begins with the same one again. `--only PART` runs those
 * whose names contain it, `--except PART` leaves them out and may be said more than once.
 *
 * One begins only when what is left of the budget is as long as it takes on two quiet cores, which is
 * written down in `test/faults/minutes.json`; the first one always does. Where it takes longer all the
 * same, it has until ten minutes after the budget, then it is stopped and counts as failed. What was
 * not started is named, and is neither passed nor failed. `--report FOLDER` writes one report of vitest
 * per file there.
 *
 * One of them looks at system calls with strace, which is installed here where that is allowed. Those on
 * brokers need a container engine and images, which are started and made first.
 */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

import { installCommand, installPackages, mayInstall } from './debian-packages.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const graceMs = 600_000
/** Of one that nobody has measured. */
const unknownMinutes = 3

function options() {
  const { values } = parseArgs({
    options: {
      for: { type: 'string', default: '35m' },
      seed: { type: 'string', default: String(Math.floor(Math.random() * 1_000_000)) },
      only: { type: 'string', default: '' },
      except: { type: 'string', multiple: true, default: [] },
      report: { type: 'string' },
    },
  })
  const seed = Number(values.seed)
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new Error(`--seed must be a whole number from 0, got '${values.seed}'`)
  }
  const { only, except, report } = values
  return { budgetMs: duration(values.for), seed, only, except, reports: report }
}

function duration(text) {
  const [, count, unit] = /^(\d+(?:\.\d+)?)(s|m|h)$/.exec(text) ?? []
  const units = { s: 1_000, m: 60_000, h: 3_600_000 }
  if (Number(count) > 0) return Number(count) * units[unit]
  throw new Error(`--for must be a time above 0, for example 90s, 35m or 2h; got '${text}'`)
}

/** All of them in their order, beginning somewhere. */
function rotated(files, seed) {
  if (files.length === 0) return files
  // Neighbouring seeds must not begin with neighbouring files: those are alike.
  const first = Math.imul(seed + 1, 0x9e37_79b1) >>> 0
  const index = first % files.length
  return [...files.slice(index), ...files.slice(0, index)]
}

function faultTests() {
  const folder = join(root, 'test', 'faults')
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true })
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => join('test', 'faults', name))
    .toSorted()
}

/** How long each file takes: whole minutes, rounded up. */
function durations() {
  const minutes = JSON.parse(readFileSync(join(root, 'test/faults/minutes.json'), 'utf8'))
  return (file) => (minutes[basename(file, '.test.ts')] ?? unknownMinutes) * 60_000
}

/** Resolves with how the file ended; a file still running at `giveUpAt` is stopped. */
function run(file, report, giveUpAt) {
  const json = report === undefined ? [] : ['--reporter=json', `--outputFile.json=${report}`]
  const args = [
    'node_modules/vitest/vitest.mjs',
    'run',
    '--project',
    'faults',
    '--reporter=default',
  ]
  const child = spawn(process.execPath, [...args, ...json, file], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
    detached: true,
  })
  // A group of its own, so that processes the test has started end with it.
  const kill = (signal) => child.pid !== undefined && process.kill(-child.pid, signal)
  const interrupt = () => {
    kill('SIGKILL')
    process.exit(143)
  }
  return new Promise((resolve) => {
    const stop = setTimeout(() => kill('SIGKILL'), giveUpAt - Date.now())
    process.once('SIGTERM', interrupt).once('SIGINT', interrupt)
    child.once('exit', (code, signal) => {
      clearTimeout(stop)
      process.off('SIGTERM', interrupt).off('SIGINT', interrupt)
      resolve(signal === 'SIGKILL' ? 'stopped' : code === 0 ? 'passed' : 'failed')
    })
  })
}

/** Without it that test fails, since it could not look; the others do not need it. */
function ensureStrace(files) {
  if (!files.some((file) => file.includes('fsync-order'))) return
  if (spawnSync('strace', ['-V'], { stdio: 'ignore' }).status === 0) return
  const say = (text) => console.error(`fault tests: ${text}`)
  try {
    if (mayInstall()) installPackages(['strace'], say)
    else say(`strace is missing: as root on Debian, run '${installCommand(['strace'])}'`)
  } catch (error) {
    say(error.message)
  }
}

/** Fault tests on brokers need a container engine and the brokers' images; what is missing is said there. */
function ensureBrokers(files) {
  const brokers = ['rabbitmq', 'kafka'].filter((name) => files.some((file) => file.includes(name)))
  if (brokers.length === 0) return
  for (const args of [['scripts/docker-engine.mjs'], ['test/brokers/images.mjs', ...brokers]]) {
    const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' })
    if (status !== 0) throw new Error(`fault tests: ${args[0]} failed, so no broker can be started`)
  }
}

function reportFile(folder, file) {
  if (folder === undefined) return undefined
  mkdirSync(folder, { recursive: true })
  return join(folder, `${basename(file, '.test.ts')}.json`)
}

async function main() {
  const { budgetMs, seed, only, except, reports } = options()
  const files = rotated(
    faultTests().filter(
      (file) => file.includes(only) && !except.some((part) => file.includes(part)),
    ),
    seed,
  )
  console.log(`fault tests of seed ${seed}: node scripts/test-faults.mjs --seed ${seed}`)
  ensureStrace(files)
  ensureBrokers(files)
  const end = Date.now() + budgetMs
  const takes = durations()
  const results = new Map(
    files.map((file) => [file, `left out: no ${takes(file) / 60_000} min left`]),
  )
  for (const [index, file] of files.entries()) {
    if (index > 0 && Date.now() + takes(file) > end) continue
    const report = reportFile(reports, file)
    const result = await run(file, report, end + graceMs)
    // Without this, a stopped file would be missing from the sum as if it had never run.
    if (result === 'stopped' && report !== undefined) {
      writeFileSync(report, JSON.stringify({ numPassedTests: 0, numFailedTests: 1 }))
    }
    results.set(file, result)
  }
  if (files.length === 0) console.log('there are no fault tests')
  for (const [file, result] of results) console.log(`${file}: ${result}`)
  const bad = [...results.values()].some((result) => result === 'failed' || result === 'stopped')
  process.exitCode = bad ? 1 : 0
}

try {
  await main()
} catch (error) {
  console.error(error.message)
  process.exitCode = 1
}
