import { isHoldfastError, PublishRefusedError } from '../../../src/contract/errors.ts'
import type { ReliablePublisher } from '../../../src/publish/publisher.ts'
import type { Facts } from '../../conformance/checker/history.ts'
import { headersOf, itemHash, messageId, Orders, type Item } from './goods.ts'
import type { Journal } from './journal.ts'

/** What the history says about an item. */
export function factsOf(item: Item): Facts & { readonly msgId: string } {
  const { producer, key, n } = item
  return { producer, key, n, msgId: messageId(item), hash: itemHash(item) }
}

/** Publishes straight to the broker; false when the publisher does not say that it is stored. */
export async function publishOne(
  item: Item,
  deadlineMs: number,
  journal: Journal,
  publisher: Pick<ReliablePublisher<never>, 'publish'>,
): Promise<boolean> {
  const facts = factsOf(item)
  journal.write('publish', 'invoke', facts)
  try {
    const options = { id: facts.msgId, headers: headersOf(item), deadlineMs }
    await publisher.publish(Orders, item, options)
    journal.write('publish', 'ok', facts)
    return true
  } catch (error) {
    const phase = error instanceof PublishRefusedError ? 'fail' : 'info'
    const { name } = error as Error
    const outcome = isHoldfastError(error) ? error.code : 'unexpected'
    journal.write('publish', phase, { ...facts, errClass: name, outcome })
    return false
  }
}
