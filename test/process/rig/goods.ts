import type { Headers } from '../../../src/contract/message.ts'
import { topic, type Topic } from '../../../src/contract/topic.ts'
import { contentHash } from '../../conformance/checker/history.ts'
import { shareOf } from './chance.ts'

/** What is sent: `n` is dense from 0 per producer and key. */
export interface Item {
  readonly producer: string
  readonly key: string
  readonly n: number
  /** Makes the body as large as a run wants it. */
  readonly pad: string
}

export const TOPIC = 'orders'
export const GROUP = 'billing'

/** The one topic of all runs: order is kept by key. */
export const Orders: Topic<Item> = topic<Item>(TOPIC, { key: ({ key }) => key })

/** Identity of an item as the checker expects it. */
export function messageId({ producer, key, n }: Item): string {
  return `${producer}-${key}-${n}`
}

/** The header every item carries: it has to arrive as it was sent. */
export function headersOf({ producer, n }: Item): Headers {
  return [['origin', `${producer}/${n}`]]
}

/** Of everything that has to be the same at both ends. */
export function itemHash(item: Item): string {
  const body = Buffer.from(JSON.stringify(item))
  return contentHash({ body, key: Buffer.from(item.key), headers: headersOf(item) })
}

/** What becomes of a message in the handler. */
export type Fate = 'fine' | 'transient' | 'permanent' | 'killer'

/** Shares of messages that fail, chosen by their ids. */
export interface Fates {
  readonly seed: number
  /** Never worth another try. */
  readonly permanent: number
  /** Fail on their first tries. */
  readonly transient: number
  /** This one ends the process that handles it. */
  readonly killer: string | null
}

/** Nothing fails. */
export const allFine: Fates = Object.freeze({
  seed: 0,
  permanent: 0,
  transient: 0,
  killer: null,
})

/** Tries that fail before a transient one works. */
export const FAILING_TRIES = 2

/** The same answer in every process and in the judge. */
export function fateOf(fates: Fates, id: string): Fate {
  if (id === fates.killer) return 'killer'
  const share = shareOf(fates.seed, id)
  if (share < fates.permanent) return 'permanent'
  return share < fates.permanent + fates.transient ? 'transient' : 'fine'
}
