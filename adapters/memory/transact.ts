import type { Delivery } from '../../src/contract/broker.ts'
import { OptionError } from '../../src/contract/errors.ts'
import type { Envelope } from '../../src/contract/message.ts'
import type { Assignment } from './assignment.ts'
import { MemoryDelivery } from './delivery.ts'
import type { Router } from './router.ts'
import type { MemoryServer } from './server.ts'

/** What a transaction may end as when a test asked for it. */
export type TransactFault = 'aborted' | 'unknown-committed' | 'unknown-aborted'

type Result = 'committed' | 'aborted' | 'unknown'

/** Acknowledges and publishes all of it or nothing of it, in one step. */
export function transact(
  { server, router }: { readonly server: MemoryServer; readonly router: Router },
  done: readonly Delivery[],
  produced: readonly Envelope[],
): Promise<Result> {
  const deliveries = done.map(own)
  if (server.capabilities.atomicPublish === 'prefix') checkPrefix(deliveries)
  const possible =
    deliveries.every((delivery) => delivery.held) &&
    produced.every((envelope) => router.check(envelope) === null)
  const fault = possible ? server.transactFaults.shift() : undefined
  if (!possible || fault === 'aborted') return answer(server, 'aborted')
  if (fault === 'unknown-aborted') return answer(server, 'unknown')
  for (const envelope of produced) router.store(envelope)
  for (const delivery of deliveries) delivery.ack()
  return answer(server, fault === undefined ? 'committed' : 'unknown')
}

/** The answer comes in a later turn, as from a broker. */
function answer(server: MemoryServer, result: Result): Promise<Result> {
  return new Promise((resolve) => server.clock.defer(() => resolve(result)))
}

function own(delivery: Delivery): MemoryDelivery {
  if (delivery instanceof MemoryDelivery) return delivery
  throw new OptionError('transact.done', delivery, 'deliveries of this receiver')
}

/** One source, and nothing before them that is held. */
function checkPrefix(deliveries: readonly MemoryDelivery[]): void {
  const [first] = deliveries
  if (first === undefined) return
  const { remembered } = first.source as Assignment
  const open = remembered.filter((one) => one.held).slice(0, deliveries.length)
  if (deliveries.every((one) => open.includes(one))) return
  throw new OptionError(
    'transact.done',
    `${deliveries.length} deliveries`,
    "the first held deliveries of one source (atomicPublish: 'prefix')",
  )
}
