import type { Destination, Envelope } from '../contract/message.ts'
import { textHash } from '../contract/partition.ts'
import type { OutboxRow } from '../contract/store.ts'

/**
 * The row that stands for an envelope in the outbox. Envelopes of one topic and order key share a
 * hash, so they share a bucket and one relay; unordered ones spread by their id.
 */
export function outboxRow(envelope: Envelope & { readonly id: string }): OutboxRow {
  if (envelope.orderKey === null) {
    return { envelope, hash: textHash(envelope.id), keyHash: 0 }
  }
  // 0 means unordered, so a key that hashes to it takes the next number.
  const hash = textHash(`${placeOf(envelope.to)}\u0000${envelope.orderKey}`) || 1
  return { envelope, hash, keyHash: hash }
}

function placeOf(to: Destination): string {
  switch (to.kind) {
    case 'topic':
      return to.topic
    case 'group':
      return `${to.topic}.${to.group}`
    case 'dead':
      return `${to.topic}.${to.group}.dead`
    case 'reply':
      return to.address
  }
}
