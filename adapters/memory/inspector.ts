import type { Inspector } from '../../src/contract/broker.ts'
import { HoldfastError } from '../../src/contract/errors.ts'
import type { Destination, Envelope } from '../../src/contract/message.ts'
import type { Group } from './group.ts'
import { destinationName } from './refusals.ts'
import type { MemoryServer } from './server.ts'
import { fromWire } from './wire-headers.ts'

/** Looks into topics, groups, retry levels and dead letters without touching them. */
export class MemoryInspector implements Inspector {
  readonly #server: MemoryServer

  constructor(server: MemoryServer) {
    this.#server = server
  }

  depth(destination: Destination): Promise<number> {
    return attempt(() => {
      const groups = this.#groups(destination)
      return groups.reduce((sum, group) => sum + depthOf(group, destination), 0)
    })
  }

  /** What waits for a delay has no place yet and is not shown. */
  browse(destination: Destination, limit: number): Promise<readonly Envelope[]> {
    return attempt(() => {
      const [group] = this.#groups(destination)
      if (group === undefined) return []
      const found = destination.kind === 'dead' ? group.dead.slice(0, limit) : group.browse(limit)
      return found.map(fromWire)
    })
  }

  #groups(destination: Destination): readonly Group[] {
    const topic =
      destination.kind === 'reply' ? undefined : this.#server.topics.get(destination.topic)
    if (topic === undefined || destination.kind === 'reply') throw missing(destination)
    if (destination.kind === 'topic') return topic.groups
    const group = topic.group(destination.group)
    if (group === undefined) throw missing(destination)
    return [group]
  }
}

function depthOf(group: Group, destination: Destination): number {
  if (destination.kind === 'dead') return group.dead.length
  if (destination.kind === 'topic') return group.depth + group.delayed
  const { delayMs } = destination as Extract<Destination, { kind: 'group' }>
  return delayMs > 0 ? group.delayedBy(delayMs) : group.depth + group.delayedBy(0)
}

function missing(destination: Destination): HoldfastError {
  return new HoldfastError('topology', `${destinationName(destination)} is not declared`)
}

/** Runs it now; what it throws becomes a rejection. */
function attempt<T>(work: () => T): Promise<T> {
  return new Promise((resolve) => resolve(work()))
}
