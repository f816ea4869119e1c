/**
 * Makes sure that the images of the broker tests are there: `node test/brokers/images.mjs`.
 *
 * An image named by its environment variable is taken as it is. Otherwise the official one is
 * pulled; where no registry answers, an equivalent one is built once from Debian packages, with
 * debootstrap, which needs root, and from published jars, with Maven. Images that are there already
 * are left alone. `node test/brokers/images.mjs kafka` looks only at those whose names contain one of
 * the words.
 */
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { installPackages, mayInstall } from '../../scripts/debian-packages.mjs'
import { addJars } from './image-jars.mjs'

/** A registry that has not begun to answer by then is taken for one that is out of reach. */
const pullStartsWithinMs = 20_000
const pullTimeoutMs = 600_000
const buildTimeoutMs = 900_000
/** Reaps containers of test runs that were killed; without it a run removes its own at the end. */
const reaper = 'testcontainers/ryuk:0.14.0'

const wanted = process.argv.slice(2)
const listed = JSON.parse(
  readFileSync(fileURLToPath(new URL('images.json', import.meta.url)), 'utf8'),
).filter(({ local }) => wanted.length === 0 || wanted.some((part) => local.includes(part)))
const say = (text) => console.error(`images: ${text}`)

function exists(image) {
  return spawnSync('docker', ['image', 'inspect', image], { stdio: 'ignore' }).status === 0
}

/** False when there is no such image or no registry to ask. */
function pulls(image) {
  const child = spawn('docker', ['pull', image], { stdio: ['ignore', 'pipe', 'ignore'] })
  const stop = () => child.kill('SIGKILL')
  let timer = setTimeout(stop, pullStartsWithinMs)
  child.stdout.once('data', () => {
    clearTimeout(timer)
    timer = setTimeout(stop, pullTimeoutMs)
  })
  return new Promise((resolve) => {
    child.once('error', () => resolve(false))
    child.once('close', (code) => {
      clearTimeout(timer)
      resolve(code === 0)
    })
  })
}

/** Runs to the end or throws with the end of what it said. */
function run(command, args, timeout = buildTimeoutMs) {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    maxBuffer: 256 * 1024 * 1024,
    timeout,
  })
  if (status === 0) return stdout
  const told = `${stdout ?? ''}\n${stderr ?? ''}`.trim().split('\n').slice(-20).join('\n')
  throw new Error(`'${command} ${args.join(' ')}' failed: ${error?.message ?? told}`)
}

function has(command) {
  return spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0
}

function refuseWithoutBuilder({ official, local, variable, jars }) {
  const reason = `${official} cannot be pulled and ${local} is not there`
  if (process.getuid?.() !== 0) {
    throw new Error(`${reason}; to build it, run 'node test/brokers/images.mjs' as root on Debian,
or name an image in ${variable}`)
  }
  const tools = [['debootstrap', 'debootstrap'], ...(jars ? [['mvn', 'maven']] : [])]
  const missing = tools.filter(([command]) => !has(command)).map(([, name]) => name)
  if (missing.length === 0) return
  if (!mayInstall()) {
    const needed = missing.join(' and ')
    throw new Error(`${reason}; building it needs ${needed}, or name an image in ${variable}`)
  }
  installPackages(missing, say)
}

/** An older debootstrap has no script for a newer suite, but that of sid serves all of them. */
function bootstrap({ package: name, suite }, folder) {
  const packages = `${name},ca-certificates`
  run('debootstrap', ['--variant=minbase', `--include=${packages}`, suite, folder, '', 'sid'])
}

/** What the image is for, with its version; throws when that is not the one wanted. */
function fill(image, folder) {
  if (image.jars) return `${image.jars.artifacts[0]} as ${addJars(image, folder, run)}`
  return `${image.package} ${checkVersion(image, folder)}`
}

/** A suite moves on: what it holds today may be another version than the tests are about. */
function checkVersion({ package: name, version, suite, variable }, folder) {
  const database = `--admindir=${join(folder, 'var/lib/dpkg')}`
  const found = run('dpkg-query', [database, '--show', '--showformat=${Version}', name]).trim()
  if (found.startsWith(`${version}.`)) return found
  throw new Error(`Debian ${suite} has ${name} ${found}, and ${version} is wanted: name an image of
${version} in ${variable}, or a suite that has it in test/brokers/images.json`)
}

function shrink(folder) {
  for (const unneeded of ['var/cache/apt', 'var/lib/apt/lists', 'usr/share/doc', 'usr/share/man']) {
    rmSync(join(folder, unneeded), { recursive: true, force: true })
  }
}

/** Builds `image.local`; throws when the version is not the one wanted. */
function build(image) {
  refuseWithoutBuilder(image)
  const jars = image.jars ? ' and published jars' : ''
  say(`building ${image.local} from Debian ${image.suite}${jars}, one to three minutes`)
  const scratch = mkdtempSync(join(tmpdir(), 'holdfast-image-'))
  try {
    const folder = join(scratch, 'root')
    bootstrap(image, folder)
    const found = fill(image, folder)
    shrink(folder)
    const archive = join(scratch, 'root.tar')
    run('tar', ['-C', folder, '-cf', archive, '.'])
    rmSync(folder, { recursive: true, force: true })
    run('docker', ['import', archive, image.local])
    say(`built ${image.local} with ${found}`)
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

async function provide(image) {
  if (process.env[image.variable]) return
  if (exists(image.official) || exists(image.local)) return
  if (await pulls(image.official)) return
  build(image)
}

/** Where nothing can be pulled, nobody waits for it once per image: the reaper is asked for last. */
async function provideReaper() {
  const isWanted = process.env.TESTCONTAINERS_RYUK_DISABLED !== 'true'
  const isLocal = listed.every(
    ({ official, variable }) => process.env[variable] || !exists(official),
  )
  if (isWanted && !isLocal && !exists(reaper)) await pulls(reaper)
}

try {
  for (const image of listed) await provide(image)
  await provideReaper()
} catch (error) {
  say(error.message)
  process.exitCode = 1
}
