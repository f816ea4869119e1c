import type { Contender, Prepared } from './measure.ts'
import { makeOrders, type Order } from './payload.ts'
import { type CountSignal, signal } from './signal.ts'
import { type Files, openShop, type Till } from './sqlite-shop.ts'

/**
 * From an order's transaction over outbox, relay, broker and inbox to the committed charge;
 * `perTransaction` orders are written, and as many charges made, in each transaction.
 */
export function endToEnd(
  messages: number,
  perTransaction: number,
  files: Files,
  file: () => string,
): Contender {
  const payloads = makeOrders(messages)
  return {
    name: `end to end by ${perTransaction}, ${files}`,
    durability: 'WAL, synchronous=FULL',
    messages,
    prepare: async (): Promise<Prepared> => {
      const charged = signal(messages)
      const shop = await openShop(file(), files, perTransaction, charged.count)
      return { run: () => runShop(shop, payloads, perTransaction, charged), close: shop.close }
    },
  }
}

async function runShop(
  shop: Till,
  payloads: readonly Order[],
  perTransaction: number,
  charged: CountSignal,
): Promise<void> {
  await shop.take(payloads, perTransaction)
  await charged.reached
}
