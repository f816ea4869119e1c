import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'vitest'

import { writer } from '../process/rig/jobs.ts'
import { inRun } from '../process/rig/run.ts'
import { program } from '../process/rig/worker.ts'

const LIMIT_MS = 120_000
const missing =
  "strace is not there, so no order of system calls can be seen: run 'npm run test:faults' as root on Debian, which installs it, or install it"

/** One system call as strace writes it with -y: descriptors with their paths. */
const call = /^\d+ +(\w+)\(\d+<([^>]*)>(.*)$/

/** Confirmations that were written down while a log had something not forced to the disk yet. */
function tooEarly(trace: string, promise: RegExp): { early: string[]; promises: number } {
  const dirty = new Set<string>()
  const early: string[] = []
  let promises = 0
  for (const line of trace.split('\n')) {
    const [, name = '', path = '', rest = ''] = call.exec(line) ?? []
    if (/^p?writev?(?:64)?$/.test(name) && path.endsWith('-wal')) dirty.add(path)
    else if (/^f(?:data)?sync$/.test(name)) dirty.delete(path)
    else if (path.endsWith('history.jsonl') && promise.test(rest)) {
      promises++
      if (dirty.size > 0) early.push(`${[...dirty].join(', ')} before ${rest.slice(0, 120)}`)
    }
  }
  return { early, promises }
}

describe('what is promised', () => {
  it.each([
    ['broker', /\\"op\\":\\"publish\\",\\"phase\\":\\"ok\\"/],
    ['outbox', /\\"op\\":\\"tx_commit\\",\\"phase\\":\\"ok\\"/],
  ] as const)(
    'is on the disk before it is promised: every write to the log of the %s is forced',
    async (via, promise) => {
      assert.equal(spawnSync('strace', ['-V'], { stdio: 'ignore' }).status, 0, missing)
      await inRun({}, async (run) => {
        const { app, broker, history } = run.paths
        const job = writer({ via, each: 5, rollBackEvery: 0 })
        const task = { ...job, proc: 'traced', crash: null, paths: { app, broker, history } }
        const trace = join(run.folder, 'trace')
        const traced = [
          '-f',
          '-y',
          '-s',
          '600',
          '-e',
          'trace=write,pwrite64,writev,pwritev,fsync,fdatasync',
        ]
        const argv = [
          ...traced,
          '-o',
          trace,
          process.execPath,
          program('writer'),
          JSON.stringify(task),
        ]
        const { status, stderr } = spawnSync('strace', argv, { timeout: LIMIT_MS })
        assert.equal(status, 0, String(stderr).slice(-2_000))
        const { early, promises } = tooEarly(readFileSync(trace, 'utf8'), promise)
        assert.ok(promises >= 10, `only ${promises} promises were seen`)
        assert.deepEqual(early, [])
      })
    },
  )
})
