import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

import ts from 'typescript'
import { expect, it } from 'vitest'

import { buildDemo } from './shop/run-demo.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
const LIMIT_MS = 30_000

/** The page's first example as JavaScript, which adds one line: how many charges there are, when there are any. */
function example(): string {
  const text = /```ts\n([\s\S]*?)```/.exec(readFileSync(join(root, 'README.md'), 'utf8'))?.[1] ?? ''
  const shown = "(await database.transaction((tx) => tx.all('SELECT id, cents FROM charges')))"
  const watch = `
    for (let rows = []; rows.length === 0; await new Promise((end) => setTimeout(end, 20))) {
      rows = ${shown}
      if (rows.length > 0) console.log(JSON.stringify(rows))
    }
    await database.close()`
  const { outputText } = ts.transpileModule(`${text}\n${watch}`, {
    compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 },
  })
  return outputText
}

it('the example of the README charges its order once and ends when it is told to', async () => {
  buildDemo()
  // Beside the built library, so that its name leads there.
  const script = join(root, 'dist', 'readme-example.mjs')
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-readme-'))
  writeFileSync(script, example())
  const child = spawn(process.execPath, [script], { cwd: folder, timeout: LIMIT_MS })
  let out = ''
  let err = ''
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
  const ended = once(child, 'exit')
  try {
    while (!out.includes('\n') && child.exitCode === null) await sleep(20)
    child.kill('SIGTERM')
    const [code] = (await ended) as [number | null]
    expect({ out: out.trim(), code, err }).toEqual({
      out: '[{"id":"o-1","cents":4200}]',
      code: 0,
      err: '',
    })
  } finally {
    child.kill('SIGKILL')
    rmSync(folder, { recursive: true })
    rmSync(script)
  }
})
