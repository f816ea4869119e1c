import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'

import type { MemoryCase, MemoryResult } from './memory-case.ts'

/** Runs a case in a process of its own, so that its memory holds nothing else. */
export function inOwnProcess(
  one: MemoryCase,
  progress: (text: string) => void,
): Promise<MemoryResult> {
  const script = fileURLToPath(new URL('memory-case.js', import.meta.url))
  return new Promise((resolve, reject) => {
    const child = fork(script, [JSON.stringify(one)], { execArgv: ['--expose-gc'] })
    child.on('message', (said: { progress: string } | { result: MemoryResult }) => {
      if ('progress' in said) progress(said.progress)
      else resolve(said.result)
    })
    child.on('error', reject)
    // Comes after the result where there is one, and is then too late to matter.
    child.on('exit', (code, signal) => {
      reject(new Error(`${JSON.stringify(one)} ended without a result: ${code ?? signal}`))
    })
  })
}
