import type { Random } from '../../src/contract/clock.ts'
import { textHash } from '../../src/contract/partition.ts'

/** Takes what AMQP writes as a positive 32-bit number. */
const HIGHEST = 0x7fffffff

const NAME_BYTES = 12

/**
 * Consumer priority of one member on one queue: the queue's members agree on who is first without
 * talking, since each computes its own number from the two names alone (rendezvous hashing). A member
 * that comes or goes moves only the queues it is first on.
 */
export function priorityOf(queue: string, member: string): number {
  return textHash(`${member}\n${queue}`) & HIGHEST
}

/** A name for one receiver among all that read the same queues; kept over reconnects. */
export function memberName(random: Random): string {
  const bytes = Buffer.alloc(NAME_BYTES)
  random.fill(bytes)
  return bytes.toString('hex')
}
