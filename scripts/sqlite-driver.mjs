/**
 * Makes sure that this Node can open an SQLite database, before anything that needs one starts.
 *
 * Node 22.13 and later bring `node:sqlite`. Older ones need better-sqlite3, a native package:
 * install scripts are off, and a ready-made binary may be out of reach, so it is compiled here
 * from its own source. Only packages are downloaded: the compiler from Debian, Node's headers
 * from the npm registry. The result is kept in the user's cache for the next `npm ci`.
 */
import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createRequire, isBuiltin } from 'node:module'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { installCommand, installPackages, mayInstall } from './debian-packages.mjs'
import { cacheFolder, nodeFolder, nodePackage } from './node-package.mjs'

const require = createRequire(import.meta.url)
const target = `node-v${process.versions.modules}-${process.platform}-${process.arch}`
const fileName = 'better_sqlite3.node'
const compileTimeoutMs = 900_000
const lockTimeoutMs = 1_200_000

const say = (text) => console.error(`sqlite driver: ${text}`)

function packageFolder(name) {
  try {
    return dirname(require.resolve(`${name}/package.json`))
  } catch {
    throw new Error(`${name} is not installed: run 'npm ci' first`)
  }
}

/** In a process of its own: a native file that does not fit can take its process down. */
function opens() {
  const script = "new (require('better-sqlite3'))(':memory:').close()"
  const run = spawnSync(process.execPath, ['-e', script], {
    cwd: dirname(packageFolder('better-sqlite3')),
    stdio: 'ignore',
    timeout: 30_000,
  })
  return run.status === 0
}

/** Into the folder that is looked up per Node ABI, so that several Nodes can share one install. */
function place(file, library) {
  const folder = join(library, 'lib', 'binding', target)
  mkdirSync(folder, { recursive: true })
  copyAtomically(file, join(folder, fileName))
  if (opens()) return true
  // A file left by another Node in build/ is looked up first, and fails the look-up.
  rmSync(join(library, 'build'), { recursive: true, force: true })
  return opens()
}

function copyAtomically(from, to) {
  const scratch = `${to}.${process.pid}`
  copyFileSync(from, scratch)
  renameSync(scratch, to)
}

function has(command) {
  return spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0
}

function missingTools() {
  return ['python3', 'make', 'g++'].filter((command) => !has(command))
}

function refuseWithoutInstaller(tools) {
  if (tools.length === 0 || mayInstall()) return
  const remedy = `as root, run '${installCommand(tools)}', or use Node 22.13 or later`
  throw new Error(`better-sqlite3 must be compiled, which needs ${tools.join(', ')}: ${remedy}`)
}

/** Headers of another ABI would compile, and crash later. */
function holdsOurHeaders(folder) {
  const file = join(folder, 'include', 'node', 'node_version.h')
  if (!existsSync(file)) return false
  const abi = /#define NODE_MODULE_VERSION (\d+)/.exec(readFileSync(file, 'utf8'))?.[1]
  return abi === process.versions.modules
}

function headersFolder() {
  const beside = dirname(dirname(process.execPath))
  if (holdsOurHeaders(beside)) return beside
  const folder = nodeFolder(process.versions.node)
  if (!holdsOurHeaders(folder)) {
    throw new Error(`${nodePackage}@${process.versions.node} does not hold this Node's headers`)
  }
  return folder
}

function plan() {
  const reason = `Node ${process.versions.node} has no node:sqlite`
  return `${reason}; compiling better-sqlite3, about two minutes; needs python3, make and g++`
}

function compile(library, destination) {
  const tools = missingTools()
  refuseWithoutInstaller(tools)
  say(plan())
  if (tools.length > 0) installPackages(tools, say)
  const headers = headersFolder()
  // In a copy: runs for another Node must not meet in the same build folder.
  const scratch = mkdtempSync(join(tmpdir(), 'holdfast-sqlite-'))
  try {
    cpSync(library, scratch, { recursive: true })
    nodeGyp(scratch, headers)
    mkdirSync(dirname(destination), { recursive: true })
    copyAtomically(join(scratch, 'build', 'Release', fileName), destination)
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

function nodeGyp(folder, headers) {
  const program = join(packageFolder('node-gyp'), 'bin', 'node-gyp.js')
  const args = [program, 'rebuild', '--release', '--jobs', 'max', `--nodedir=${headers}`]
  const path = [dirname(process.execPath), process.env.PATH].join(delimiter)
  const run = spawnSync(process.execPath, args, {
    cwd: folder,
    env: { ...process.env, PATH: path },
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    timeout: compileTimeoutMs,
  })
  if (run.status === 0) return
  const end = `${run.stdout}\n${run.stderr}`.trim().split('\n').slice(-40).join('\n')
  throw new Error(`better-sqlite3 did not compile; the end of node-gyp's output:\n${end}`)
}

function holderIsAlive(lock) {
  try {
    process.kill(Number(readFileSync(lock, 'utf8')), 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}

function take(lock) {
  const mine = `${lock}.${process.pid}`
  writeFileSync(mine, String(process.pid))
  try {
    // A link appears with its content: nobody ever reads a lock without a process id.
    linkSync(mine, lock)
    return true
  } catch (error) {
    if (error.code !== 'EEXIST') throw error
    return false
  } finally {
    rmSync(mine, { force: true })
  }
}

/** One compilation at a time; a lock whose process is gone is taken over. */
async function locked(lock, work) {
  mkdirSync(dirname(lock), { recursive: true })
  const giveUpAt = Date.now() + lockTimeoutMs
  for (let tries = 0; !take(lock); tries++) {
    if (tries === 4) say('waiting for another process that compiles better-sqlite3')
    if (!holderIsAlive(lock)) rmSync(lock, { force: true })
    else if (Date.now() > giveUpAt) throw new Error(`another process still holds ${lock}`)
    else await sleep(250)
  }
  try {
    work()
  } finally {
    rmSync(lock, { force: true })
  }
}

function provide() {
  if (opens()) return
  const library = packageFolder('better-sqlite3')
  const { version } = require('better-sqlite3/package.json')
  const cached = join(cacheFolder, `better-sqlite3-${version}`, target, fileName)
  if (existsSync(cached) && place(cached, library)) return
  compile(library, cached)
  if (!place(cached, library)) throw new Error('better-sqlite3 was compiled, but does not load')
  say(`compiled; kept in ${cached}`)
}

async function main() {
  if (isBuiltin('node:sqlite') || opens()) return
  await locked(join(cacheFolder, `better-sqlite3-${target}.lock`), provide)
}

try {
  await main()
} catch (error) {
  say(error.message)
  process.exitCode = 1
}
