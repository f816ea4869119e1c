import { PermanentError, type HandlerContext } from 'holdfast'
import type { SqliteTransaction } from 'holdfast/sqlite'

import { fateOf, type FailurePlan } from './charge-failures.ts'
import type { History } from './history.ts'
import type { Order } from './orders.ts'

/** What the handler uses of its context. */
export interface ChargeContext extends Pick<HandlerContext<Order>, 'id' | 'attempt'> {
  readonly tx: SqliteTransaction
}

/**
 * Charges an order. The charge is written in the transaction in which the inbox remembers the
 * message: both or neither. It is written before the payment may fail on purpose, so that a failure
 * whose effect was not rolled back would show as a second charge.
 */
export function charging(
  plan: FailurePlan,
  history: History,
): (order: Order, context: ChargeContext) => void {
  return (order, context) => {
    const { id, customer: key, line } = order
    const { attempt } = context
    const message = context.id ?? ''
    history.write('invoke', { op: 'charge', id, message, key, line, attempt })
    insertCharge(context.tx, order)
    try {
      pay(plan, order, attempt)
    } catch (error) {
      history.write('fail', { op: 'charge', id, message, reason: (error as Error).message })
      throw error
    }
  }
}

function insertCharge(tx: SqliteTransaction, { id, customer, amount, line }: Order): void {
  const insert = 'INSERT INTO charges (order_id, customer, amount, line) VALUES (?, ?, ?, ?)'
  tx.run(insert, id, customer, amount, line)
}

/** Stands for a payment service that sometimes does not answer, and sometimes says no. */
function pay(plan: FailurePlan, order: Order, attempt: number): void {
  const fate = fateOf(plan, order.id)
  if (fate.kind === 'permanent') throw new PermanentError('the card was refused')
  if (fate.kind === 'transient' && attempt <= fate.attempts) {
    throw new Error('the payment service did not answer')
  }
}
