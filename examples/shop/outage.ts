import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

import { History } from './history.ts'
import { files, type Settings } from './settings.ts'

const run = promisify(execFile)

/** On a busy machine the engine gives up freezing processes before they stand still. */
const PAUSE_TRIES = 10
const PAUSE_AGAIN_MS = 500

/** Takes the broker away for a while; in its history stands what really happened. */
export class Outage {
  readonly #settings: Settings
  readonly #container: string | null
  readonly #ms: number
  #holder: ChildProcess | null = null
  #paused = false
  #going = false

  constructor(settings: Settings, container: string | null, ms: number) {
    this.#settings = settings
    this.#container = container
    this.#ms = ms
  }

  get going(): boolean {
    return this.#going
  }

  /** Resolves when the broker is back; rejects when it could not be taken away. */
  async happen(): Promise<void> {
    this.#going = true
    try {
      if (this.#settings.broker === 'sqlite') await this.#holdLock()
      else if (this.#container !== null) await this.#pauseContainer(this.#container)
      else throw new Error('--container names what to pause')
    } finally {
      this.#going = false
    }
  }

  /** Gives the broker back at once, for when the demo is interrupted. */
  abandon(): void {
    this.#holder?.kill('SIGKILL')
    if (this.#paused && this.#container !== null) {
      spawn('docker', ['unpause', this.#container], { stdio: 'ignore', detached: true }).unref()
    }
  }

  async #pause(container: string): Promise<void> {
    for (let tries = 1; !this.#paused; tries++) {
      try {
        await run('docker', ['pause', container], { timeout: 10_000 })
        this.#paused = true
      } catch (error) {
        if (tries === PAUSE_TRIES || !(await isRunning(container))) throw error
        await sleep(PAUSE_AGAIN_MS)
      }
    }
  }

  async #holdLock(): Promise<void> {
    const script = fileURLToPath(new URL('hold-lock.js', import.meta.url))
    const child = spawn(process.execPath, [script, this.#settings.dir, String(this.#ms)], {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    })
    this.#holder = child
    const said: Buffer[] = []
    child.stderr?.on('data', (chunk: Buffer) => said.push(chunk))
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject)
      child.once('close', resolve)
    })
    this.#holder = null
    if (code !== 0) throw new Error(`the lock was not held: ${Buffer.concat(said).toString()}`)
  }

  async #pauseContainer(container: string): Promise<void> {
    const history = new History(files.history(this.#settings.dir, 'outage'), 'outage')
    try {
      await this.#pause(container)
      const from = performance.now()
      history.write('invoke', { op: 'outage' })
      await sleep(this.#ms)
      await run('docker', ['unpause', container], { timeout: 10_000 })
      this.#paused = false
      history.write('ok', { op: 'outage', ms: Math.round(performance.now() - from) })
    } finally {
      history.close()
    }
  }
}

/** Not paused and not ended. */
async function isRunning(container: string): Promise<boolean> {
  const args = ['inspect', '--format', '{{.State.Status}}', container]
  return (await run('docker', args, { timeout: 10_000 })).stdout.trim() === 'running'
}
