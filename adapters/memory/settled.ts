import { ClosedError, HoldfastError } from '../../src/contract/errors.ts'
import { integerOption } from '../../src/contract/option.ts'
import type { Connection } from './connection.ts'
import type { MemoryServer } from './server.ts'

/** Waits until nothing is under way on the server, at most that long. */
export function settled(
  server: MemoryServer,
  connection: Connection,
  deadlineMs: number | undefined,
): Promise<void> {
  const limit = integerOption('deadlineMs', deadlineMs, 5_000, { min: 0 })
  return new Promise((resolve, reject) => {
    const end = (error?: Error): void => {
      stopWatching()
      cancel()
      connection.onClose.delete(closed)
      if (error === undefined) resolve()
      else reject(error)
    }
    const closed = (): void => end(new ClosedError('memory broker (settled())'))
    const stopWatching = server.watch(() => {
      if (leftOver(server).length === 0) end()
    })
    const cancel = server.clock.after(limit, () => {
      const left = leftOver(server)
      if (left.length === 0) return end()
      end(new HoldfastError('timeout', `not settled within ${limit} ms: ${left.join('; ')}`))
    })
    connection.onClose.add(closed)
  })
}

/** What is under way, one line for each group and the senders. */
function leftOver(server: MemoryServer): string[] {
  const lines: string[] = []
  let unreported = 0
  for (const client of server.clients) unreported += client.unreported
  if (unreported > 0) lines.push(`${unreported} sent and not confirmed`)
  for (const topic of server.topics.values()) {
    for (const group of topic.groups) {
      const { depth, delayed } = group
      if (depth + delayed === 0) continue
      const nobody = group.members.all.length === 0 ? ', and nobody receives there' : ''
      lines.push(`${depth + delayed} in ${topic.name}.${group.name}${nobody}`)
    }
  }
  return lines
}
