/**
 * Compiles everything that runs outside the test runner into `dist/`, one output per source file.
 *
 * `--if-stale` does nothing when `dist/` was built from exactly these sources. The new tree
 * replaces the old one only when it compiled without an error, so `dist/` is never half built.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  copyFileSync,
  existsSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const dist = join(root, 'dist')
const stamp = join(dist, '.built-from')
const sourceFolders = ['src', 'adapters', 'test', 'examples', 'bench']
/** Read by what is built, from beside it. */
const data = ['test/brokers/images.json']
const settings = [
  ...data,
  'package.json',
  'tsconfig.json',
  'tsconfig.build.json',
  'package-lock.json',
]

function sources() {
  return sourceFolders
    .map((folder) => join(root, folder))
    .filter((folder) => existsSync(folder))
    .flatMap((folder) =>
      readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
        .filter((entry) => !entry.name.endsWith('.test.ts'))
        .map((entry) => join(entry.parentPath, entry.name)),
    )
}

/** Changes when a source is added, removed or written, and when a setting is. */
function signature() {
  const hash = createHash('sha256')
  const files = [...sources(), ...settings.map((name) => join(root, name))]
  for (const file of files.toSorted((a, b) => (a < b ? -1 : 1))) {
    const { mtimeMs, size } = statSync(file)
    hash.update(`${file}\0${mtimeMs}\0${size}\n`)
  }
  return hash.digest('hex')
}

function builtFrom() {
  return existsSync(stamp) ? readFileSync(stamp, 'utf8') : 'nothing'
}

function compile(outDir) {
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
  const args = [tsc, '-p', join(root, 'tsconfig.build.json'), '--outDir', outDir, '--noEmitOnError']
  return spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' }).status === 0
}

function replaceDist(fresh) {
  const old = `${fresh}.old`
  if (existsSync(dist)) renameSync(dist, old)
  renameSync(fresh, dist)
  rmSync(old, { recursive: true, force: true })
}

function build() {
  // Read before compiling: a file saved meanwhile makes the result stale, as it should.
  const from = signature()
  if (process.argv.includes('--if-stale') && builtFrom() === from) return true
  // A sibling of dist/, so that the relative paths in source maps hold after the rename.
  const fresh = `${dist}.${process.pid}`
  try {
    if (!compile(fresh)) return false
    for (const name of data) copyFileSync(join(root, name), join(fresh, name))
    writeFileSync(join(fresh, '.built-from'), from)
    replaceDist(fresh)
    return true
  } finally {
    rmSync(fresh, { recursive: true, force: true })
  }
}

if (!build()) {
  console.error('build: the sources do not compile; dist/ was left as it was')
  process.exitCode = 1
}
