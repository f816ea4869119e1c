import { PublishRefusedError } from '../../src/contract/errors.ts'
import { ownTransactionError } from './errors.ts'
import { insideTransaction } from './own-transaction.ts'

/** Why the calling code cannot publish now: it is inside a transaction on the broker's file; else `null`. */
export function refusalInside(
  purpose: 'publish' | 'relay' | 'settle',
  isBrokersFile: (path: string) => boolean,
): PublishRefusedError | null {
  // A relay serves everybody, whoever's code it happens to run behind.
  if (purpose === 'relay') return null
  let found = ''
  const inside = insideTransaction((path) => {
    found = path
    return isBrokersFile(path)
  })
  if (!inside) return null
  const what = purpose === 'publish' ? 'publish()' : 'context.publish() without an outbox'
  const { code, message } = ownTransactionError(what, found)
  return new PublishRefusedError(code, message)
}
