import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

const PREFACE = Buffer.from([...Buffer.from('AMQP'), 0, 0, 9, 1])
const TRY_MS = 2_000
const PAUSE_MS = 200

/** True when an AMQP broker begins to speak at this port of the loopback interface. */
export function speaksAmqp(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port, timeout: TRY_MS })
    const end = (does: boolean): void => {
      socket.destroy()
      resolve(does)
    }
    socket.once('connect', () => socket.write(PREFACE))
    socket.once('data', () => end(true))
    socket.once('timeout', () => end(false))
    socket.once('error', () => end(false))
    socket.once('close', () => end(false))
  })
}

/** Asks again and again until `isSo` says yes; rejects with `what`, as it is then, after `limitMs`. */
export async function until(
  what: string | (() => string),
  isSo: () => Promise<boolean>,
  limitMs: number,
): Promise<void> {
  const giveUpAt = performance.now() + limitMs
  while (!(await isSo())) {
    if (performance.now() > giveUpAt) {
      const still = typeof what === 'string' ? what : what()
      throw new Error(`not within ${limitMs} ms: ${still}`)
    }
    await sleep(PAUSE_MS)
  }
}
