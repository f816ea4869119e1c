import type { BrokerState } from './broker.ts'

/** Facts shared by events about one message. */
interface About {
  readonly topic: string
  readonly id: string | null
}

/** Facts shared by events about one delivery to a group. */
interface AboutDelivery extends About {
  readonly group: string
  readonly attempt: number
  readonly at: string
}

/** Everything holdfast may tell, as one union tagged by `type`. Payloads never appear. */
export type HoldfastEvent =
  | ({ readonly type: 'publish.confirmed'; readonly attempts: number } & About)
  | ({
      readonly type: 'publish.retry'
      readonly attempt: number
      readonly delayMs: number
      readonly error: Error
    } & About)
  | ({ readonly type: 'publish.refused'; readonly error: Error } & About)
  | ({ readonly type: 'publish.unknown'; readonly error: Error } & About)
  /** The broker's word came after its deadline, or a second time; whoever asked was told already. */
  | ({
      readonly type: 'publish.late'
      readonly outcome: 'confirmed' | 'refused' | 'unknown'
    } & About)
  | { readonly type: 'broker.state'; readonly broker: string; readonly state: BrokerState }
  | {
      readonly type: 'breaker.state'
      readonly name: string
      readonly state: 'closed' | 'open' | 'half-open'
    }
  | { readonly type: 'relay.leases'; readonly held: number; readonly contenders: number }
  | { readonly type: 'relay.published'; readonly count: number }
  | { readonly type: 'relay.fenced'; readonly count: number }
  | ({ readonly type: 'relay.parked'; readonly reason: string } & About)
  | { readonly type: 'relay.error'; readonly step: string; readonly error: Error }
  | ({ readonly type: 'message.delivered'; readonly redelivered: boolean } & AboutDelivery)
  | ({ readonly type: 'message.done'; readonly durationMs: number } & AboutDelivery)
  | ({ readonly type: 'message.duplicate' } & AboutDelivery)
  | ({
      readonly type: 'message.retry'
      readonly delayMs: number
      readonly via: 'lane' | 'broker'
      readonly error: Error
    } & AboutDelivery)
  | ({
      readonly type: 'message.dead'
      readonly reason: string
      readonly error: Error | null
    } & AboutDelivery)
  | ({ readonly type: 'message.discarded'; readonly reason: string } & AboutDelivery)
  | ({ readonly type: 'message.undedupable' } & AboutDelivery)
  | ({ readonly type: 'handler.stuck'; readonly forMs: number } & AboutDelivery)
  | {
      readonly type: 'lane.full'
      readonly source: string
      readonly limit: 'messages' | 'age' | 'holes'
    }
  | { readonly type: 'source.lost'; readonly source: string; readonly held: number }
  | { readonly type: 'settle.failed'; readonly count: number; readonly error: Error }
  | { readonly type: 'settle.stale'; readonly source: string; readonly count: number }
  | { readonly type: 'consumer.ended'; readonly group: string; readonly error: Error | null }
  | { readonly type: 'process.unconfirmed'; readonly count: number }
  | { readonly type: 'warning'; readonly code: string; readonly message: string }

/** One of the tags of `HoldfastEvent`. */
export type EventType = HoldfastEvent['type']

/** How events are told. Ask `wants` before building one on a hot path; telling never throws. */
export interface Emit {
  (event: HoldfastEvent): void
  wants(type: EventType): boolean
}

/** Nobody listens. */
export const silent: Emit = Object.freeze(Object.assign(() => undefined, { wants: () => false }))
