/**
 * Runs the unit, memory and sqlite suites on every supported Node: `npm run test:nodes`, or on the
 * given ones: `npm run test:nodes -- 20.19.0 26`. A Node that is not running this script is
 * downloaded once, as an npm package.
 */
import { spawnSync } from 'node:child_process'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { nodeFolder } from './node-package.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const supported = ['20', '22', '24', '26']
const suites = ['unit', 'memory', 'sqlite']

function programOf(version) {
  const running = process.versions.node
  if (running === version || running.split('.')[0] === version) return process.execPath
  return join(nodeFolder(version), 'bin', 'node')
}

/** Runs a script of the repository; child processes that ask for `node` get the same one. */
function runs(node, args) {
  const path = [dirname(node), process.env.PATH].join(delimiter)
  const env = { ...process.env, PATH: path }
  return spawnSync(node, args, { cwd: root, env, stdio: 'inherit' }).status === 0
}

function passes(version) {
  try {
    const node = programOf(version)
    const { stdout } = spawnSync(node, ['--version'], { encoding: 'utf8' })
    console.error(`\n=== Node ${stdout?.trim()} ===`)
    const projects = suites.flatMap((suite) => ['--project', suite])
    return (
      runs(node, ['scripts/sqlite-driver.mjs']) &&
      runs(node, ['scripts/build.mjs', '--if-stale']) &&
      runs(node, ['node_modules/vitest/vitest.mjs', 'run', ...projects])
    )
  } catch (error) {
    console.error(error.message)
    return false
  }
}

const versions = process.argv.length > 2 ? process.argv.slice(2) : supported
const results = versions.map((version) => ({ version, passed: passes(version) }))
console.log()
for (const { version, passed } of results) {
  console.log(`Node ${version}: ${passed ? 'passed' : 'FAILED'}`)
}
process.exitCode = results.every(({ passed }) => passed) ? 0 : 1
