/**
 * Makes sure that a Docker engine answers, before tests start containers.
 *
 * An engine that answers is left alone. Where there is none and this is root on Debian, the
 * packages are installed and the daemon is started; it stays for the next run, with its log and its
 * process id in the user's cache. `--stop` ends the daemon that this script started, and no other.
 *
 * `HOLDFAST_DOCKERD_OPTIONS` holds further options for the daemon, separated by spaces.
 */
import { spawn, spawnSync } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import { installCommand, installPackages, mayInstall } from './debian-packages.mjs'
import { cacheFolder } from './node-package.mjs'

const startTimeoutMs = 90_000
const stopTimeoutMs = 60_000
const answerTimeoutMs = 15_000
const pidFile = join(cacheFolder, 'dockerd.pid')
const logFile = join(cacheFolder, 'dockerd.log')

const say = (text) => console.error(`docker engine: ${text}`)

/** What the client is told to talk to; the daemon listens there when it is started here. */
const address = process.env.DOCKER_HOST || 'unix:///var/run/docker.sock'

function answers() {
  const args = ['version', '--format', '{{.Server.Version}}']
  const { status } = spawnSync('docker', args, { stdio: 'ignore', timeout: answerTimeoutMs })
  return status === 0
}

function has(command) {
  return spawnSync(command, ['--version'], { stdio: 'ignore' }).error === undefined
}

/** In newer Debians the client is a package of its own, and only recommended by the daemon's. */
function missingPackages() {
  const wanted = [
    ['dockerd', 'docker.io'],
    ['debootstrap', 'debootstrap'],
  ]
  return wanted.filter(([command]) => !has(command)).map(([, name]) => name)
}

function install() {
  const packages = missingPackages()
  if (packages.length > 0) installPackages(packages, say)
  if (!has('docker')) installPackages(['docker-cli'], say)
}

function refuseWithoutInstaller() {
  if (!address.startsWith('unix://')) {
    throw new Error(`no engine answers at DOCKER_HOST=${address}: start it, or unset DOCKER_HOST`)
  }
  if (mayInstall()) return
  const remedy = `start one, or as root on Debian run '${installCommand(['docker.io', 'debootstrap'])}'`
  throw new Error(`no engine answers at ${address}; tests with real brokers need one: ${remedy}`)
}

/** The process id in the file, if a daemon runs under it. */
function runningDaemon() {
  if (!existsSync(pidFile)) return null
  const pid = Number(readFileSync(pidFile, 'utf8').trim())
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === 'dockerd' ? pid : null
  } catch {
    return null
  }
}

/** Starts the daemon in the background, where it outlives this script; `end` says how it ended. */
function start() {
  mkdirSync(cacheFolder, { recursive: true })
  // Left by a daemon that was killed, it would keep the next one from starting.
  if (runningDaemon() === null) rmSync(pidFile, { force: true })
  const log = openSync(logFile, 'w')
  const more = (process.env.HOLDFAST_DOCKERD_OPTIONS ?? '').split(' ').filter(Boolean)
  say(`starting dockerd; it logs to ${logFile}, '--stop' ends it`)
  const child = spawn('dockerd', ['--host', address, '--pidfile', pidFile, ...more], {
    stdio: ['ignore', log, log],
    detached: true,
  })
  closeSync(log)
  child.unref()
  const daemon = { end: null }
  child.once('exit', (code, signal) => {
    daemon.end = signal ?? `exit code ${code}`
  })
  child.once('error', (error) => {
    daemon.end = error.message
  })
  return daemon
}

function endOfLog() {
  return readFileSync(logFile, 'utf8').trim().split('\n').slice(-15).join('\n')
}

async function untilItAnswers(daemon) {
  const giveUpAt = Date.now() + startTimeoutMs
  while (!answers()) {
    if (daemon.end !== null) {
      throw new Error(`dockerd ended (${daemon.end}); the end of its log:\n${endOfLog()}`)
    }
    if (Date.now() > giveUpAt) {
      throw new Error(`dockerd does not answer after ${startTimeoutMs} ms:\n${endOfLog()}`)
    }
    await sleep(500)
  }
}

async function provide() {
  if (answers()) return
  refuseWithoutInstaller()
  say(`no engine answers at ${address}`)
  install()
  if (answers()) return
  await untilItAnswers(start())
  say('it answers')
}

async function stop() {
  const pid = runningDaemon()
  if (pid === null) return say('this script started none that still runs')
  process.kill(pid, 'SIGTERM')
  const giveUpAt = Date.now() + stopTimeoutMs
  while (runningDaemon() === pid) {
    if (Date.now() > giveUpAt) throw new Error(`process ${pid} did not end; see ${logFile}`)
    await sleep(200)
  }
  rmSync(pidFile, { force: true })
  say(`stopped process ${pid}`)
}

try {
  if (process.argv.includes('--stop')) await stop()
  else await provide()
} catch (error) {
  say(error.message)
  process.exitCode = 1
}
