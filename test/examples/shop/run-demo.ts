import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url))
const root = path('../../..')
const script = path('../../../dist/examples/shop/demo.js')

/** How a run of the demo ended. */
export interface Ended {
  readonly exitCode: number | null
  readonly out: string
  readonly err: string
}

/** The demo runs from `dist/`: Node 20 cannot run TypeScript. */
export function buildDemo(): void {
  const options = { cwd: root, stdio: 'pipe', timeout: 240_000 } as const
  execFileSync(process.execPath, [path('../../../scripts/build.mjs'), '--if-stale'], options)
}

/** Runs the demo to its end. */
export function runDemo(args: readonly string[], input?: string): Promise<Ended> {
  return new Promise((resolve) => {
    const options = { cwd: root, timeout: 240_000, maxBuffer: 16_777_216 }
    const child = execFile(process.execPath, [script, ...args], options, (_error, out, err) =>
      resolve({ exitCode: child.exitCode, out, err }),
    )
    child.stdin?.end(input)
  })
}

/** Starts the demo without waiting for its end. */
export function startDemo(args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [script, ...args], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

/** The number behind a name in the table. */
export function numberOf({ out }: Ended, name: string): number {
  const line = new RegExp(`^${name} {2,}([0-9 ]*[0-9])(?: {3}|$)`, 'm').exec(out)?.[1]
  return Number(line?.replaceAll(' ', ''))
}
