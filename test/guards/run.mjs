// Removes one guard at a time from a copy of the sources and demands that the named test goes red.
//
// A patch starts with lines `guard:` (the rule it removes), `test:` (the test file) and `name:` (the
// test's full name, or the part of it that selects it), then a unified diff.
//
//   node test/guards/run.mjs [part of a patch's name …]
import { execFile } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { mkdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { nodeFolder } from '../../scripts/node-package.mjs'

const here = dirname(fileURLToPath(import.meta.url))
const root = join(here, '..', '..')
const copied = ['src', 'adapters', 'test', 'package.json', 'tsconfig.json', 'vitest.config.ts']
/** A removed guard may hang its test: that is red too, but it must end. */
const LONGEST_TEST_MS = 120_000

const wanted = process.argv.slice(2)
const guards = readdirSync(here)
  .filter((file) => file.endsWith('.patch') && isWanted(file))
  .map(readGuard)
if (guards.length === 0) fail(`no patch matches: ${wanted.join(' ')}`)

const verdicts = []
const queue = [...guards]
await Promise.all([1, 2].map(() => work()))
report(verdicts)

function isWanted(file) {
  return wanted.length === 0 || wanted.some((part) => file.includes(part))
}

function readGuard(file) {
  const text = readFileSync(join(here, file), 'utf8')
  const field = (name) => new RegExp(`^${name}: (.+)$`, 'm').exec(text)?.[1]?.trim()
  const guard = { file, rule: field('guard'), test: field('test'), name: field('name') }
  for (const part of ['rule', 'test', 'name']) {
    if (!guard[part])
      fail(`${file} has no line for its ${part}: guard:, test: and name: are needed`)
  }
  return guard
}

/** One worker has one copy of the tree and mends it after each guard. */
async function work() {
  const tree = copyTree()
  try {
    for (let guard = queue.shift(); guard !== undefined; guard = queue.shift()) {
      const verdict = await judge(tree, guard)
      verdicts.push({ ...guard, verdict })
      console.log(`${verdict === 'red' ? 'red  ' : 'WRONG'} ${guard.file}: ${guard.rule}`)
      if (verdict !== 'red') console.log(`      ${verdict}`)
    }
  } finally {
    rmSync(tree, { recursive: true, force: true })
  }
}

function copyTree() {
  const tree = mkdtempSync(join(tmpdir(), 'holdfast-guards-'))
  for (const entry of copied) cpSync(join(root, entry), join(tree, entry), { recursive: true })
  symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'))
  return tree
}

async function judge(tree, guard) {
  const patch = join(here, guard.file)
  const intact = await runTest(tree, guard)
  if (intact !== 'green') return `the test is ${intact} with the guard in place`
  const applied = await run('git', ['apply', '-p1', patch], tree)
  if (applied.code !== 0) {
    restore(tree)
    return `the patch does not apply:\n${applied.output}`
  }
  const without = await runTest(tree, guard)
  restore(tree)
  return without === 'red' ? 'red' : `the test is ${without} without the guard`
}

function restore(tree) {
  for (const entry of ['src', 'adapters', 'test']) {
    rmSync(join(tree, entry), { recursive: true, force: true })
    cpSync(join(root, entry), join(tree, entry), { recursive: true })
  }
}

async function runTest(tree, guard) {
  const reportFile = join(tree, 'report.json')
  rmSync(reportFile, { force: true })
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs')
  const args = [vitest, 'run', guard.test, '-t', escaped(guard.name), '--reporter=json']
  const command = nodeFor(guard.test)
  const { code, output } = await run(command, [...args, `--outputFile=${reportFile}`], tree)
  if (code === 'timeout') return 'red'
  let results
  try {
    results = JSON.parse(readFileSync(reportFile, 'utf8'))
  } catch {
    return `not run:\n${output.slice(-2_000)}`
  }
  if (results.numFailedTests > 0 || unhandled(output)) return 'red'
  return results.numPassedTests > 0 ? 'green' : 'not run: no test has that name, or it did not load'
}

/** The other Kafka driver needs a later Node, as `scripts/test-platformatic.mjs` says. */
function nodeFor(test) {
  if (!test.startsWith('test/adapters/platformatic')) return process.execPath
  return join(nodeFolder('24'), 'bin', 'node')
}

function unhandled(output) {
  return output.includes('Unhandled Rejection') || output.includes('Unhandled Errors')
}

/** vitest takes the name as a regular expression. */
function escaped(name) {
  return name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
}

function run(command, args, cwd) {
  return new Promise((resolve) => {
    const options = { cwd, timeout: LONGEST_TEST_MS, killSignal: 'SIGKILL', maxBuffer: 64 << 20 }
    execFile(command, args, options, (error, stdout, stderr) => {
      const code = error === null ? 0 : error.killed ? 'timeout' : (error.code ?? 1)
      resolve({ code, output: `${stdout}\n${stderr}` })
    })
  })
}

function report(all) {
  const bad = all.filter(({ verdict }) => verdict !== 'red')
  const file = process.env.HOLDFAST_REPORT
  if (file) {
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(
      file,
      JSON.stringify({ numPassedTests: all.length - bad.length, numFailedTests: bad.length }),
    )
  }
  console.log(`${all.length - bad.length} guards bite, ${bad.length} do not`)
  for (const { file: name, verdict } of bad) console.log(`  ${basename(name)}: ${verdict}`)
  process.exitCode = bad.length === 0 ? 0 : 1
}

function fail(text) {
  console.error(text)
  process.exit(1)
}
