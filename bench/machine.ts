import { readFileSync, realpathSync } from 'node:fs'
import { arch, availableParallelism, cpus, loadavg, release, totalmem, type } from 'node:os'
import { sep } from 'node:path'

/** What the figures were measured on; without it they cannot be compared. */
export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly memoryMiB: number
  readonly kernel: string
  readonly node: string
  readonly sqlite: string
  /** Type of the file system the databases are on. */
  readonly filesystem: string
  /** Over the last minute, before the first run: other work on the cores. */
  readonly loadAverage: number
}

/** Describes this machine; `directory` is where the databases are. */
export function describeMachine(directory: string, sqlite: string): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryMiB: Math.round(totalmem() / 2 ** 20),
    kernel: `${type()} ${release()} ${arch()}`,
    node: process.version,
    sqlite,
    filesystem: filesystemOf(directory),
    loadAverage: loadavg()[0] ?? 0,
  }
}

/** Type of the file system a directory is on, from the mount table; 'unknown' where there is none. */
export function filesystemOf(directory: string): string {
  const path = realpathSync(directory)
  let best = { point: '', kind: 'unknown' }
  for (const line of mounts()) {
    const [, point = '', kind = ''] = line.split(' ')
    if (contains(point, path) && point.length >= best.point.length) best = { point, kind }
  }
  return best.kind
}

function mounts(): readonly string[] {
  try {
    return readFileSync('/proc/self/mounts', 'utf8').split('\n')
  } catch {
    return []
  }
}

function contains(point: string, path: string): boolean {
  return point === '/' || path === point || path.startsWith(point + sep)
}
