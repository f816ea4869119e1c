import type { HoldfastError, OutcomeUnknownError } from '../contract/errors.ts'
import type { Envelope } from '../contract/message.ts'
import type { Sent } from '../send/deliver.ts'

/** A message that is safe: stored by the broker, or by the outbox that will bring it there. */
export interface Published {
  readonly id: string
  readonly topic: string
  readonly key: string | null
  readonly via: 'broker' | 'outbox'
  /** Where the broker stored it, as far as it says. */
  readonly partition?: number
  readonly offset?: string
  readonly attempts: number
  /** An earlier attempt ended unknown: it may be stored twice, with one id. */
  readonly possiblyDuplicated: boolean
}

/**
 * How one message of a batch ended. refused: definitely not stored; also one that does not fit its
 * schema. unknown: may be stored.
 */
export type BatchOutcome =
  | { readonly status: 'confirmed'; readonly published: Published }
  | { readonly status: 'refused'; readonly error: HoldfastError }
  | { readonly status: 'unknown'; readonly error: OutcomeUnknownError }

/** The result of a publish, from its envelope and how it was sent. */
export function published(envelope: Envelope, sent: Sent): Published {
  const { at } = sent
  const result = {
    id: envelope.id as string,
    topic: envelope.to.kind === 'reply' ? envelope.to.address : envelope.to.topic,
    key: keyText(envelope),
    via: sent.via,
    attempts: sent.attempts,
    possiblyDuplicated: sent.possiblyDuplicated,
  }
  return at === null ? result : { ...result, partition: at.partition, offset: at.offset }
}

function keyText({ key, orderKey }: Envelope): string | null {
  if (key === null) return null
  // Nearly always the key is what orders, and then its text is at hand.
  if (orderKey !== null && orderKey !== '') return orderKey
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('utf8')
}
