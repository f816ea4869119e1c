/**
 * Runs the fault tests, one file after another, within a budget: `--minutes 35` (the default).
 *
 * The budget bounds what is started: a file that has begun is given ten minutes to end, then it is
 * stopped and counts as failed. What was not started is named, and is neither passed nor failed.
 * `--report FOLDER` writes one report of vitest per file there.
 */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = fileURLToPath(new URL('..', import.meta.url))
const graceMs = 600_000

function options() {
  const { values } = parseArgs({
    options: { minutes: { type: 'string', default: '35' }, report: { type: 'string' } },
  })
  const minutes = Number(values.minutes)
  if (!(minutes > 0)) throw new Error(`--minutes must be a number above 0, got '${values.minutes}'`)
  return { budgetMs: minutes * 60_000, reports: values.report }
}

function faultTests() {
  const folder = join(root, 'test', 'faults')
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true })
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => join('test', 'faults', name))
    .toSorted()
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
  const kill = (signal) => process.kill(-child.pid, signal)
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

function reportFile(folder, file) {
  if (folder === undefined) return undefined
  mkdirSync(folder, { recursive: true })
  return join(folder, `${basename(file, '.test.ts')}.json`)
}

async function main() {
  const { budgetMs, reports } = options()
  const files = faultTests()
  const end = Date.now() + budgetMs
  const results = new Map(files.map((file) => [file, 'left out: the budget was used up']))
  for (const file of files) {
    if (Date.now() >= end) break
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
