/**
 * Runs the tests of Kafka's other driver, which needs a later Node than the rest of the project, on one
 * that is downloaded once as an npm package: `node scripts/test-platformatic.mjs [vitest arguments]`.
 */
import { spawnSync } from 'node:child_process'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { nodeFolder } from './node-package.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const node = join(nodeFolder('24'), 'bin', 'node')
// Processes that tests start ask for `node`, and get the same one.
const env = { ...process.env, PATH: [dirname(node), process.env.PATH].join(delimiter) }
const args = ['node_modules/vitest/vitest.mjs', 'run', '--project', 'platformatic']
const { status } = spawnSync(node, [...args, ...process.argv.slice(2)], {
  cwd: root,
  env,
  stdio: 'inherit',
})
process.exitCode = status ?? 1
