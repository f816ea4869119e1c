import { topic, type Topic } from 'holdfast'
import { z } from 'zod'

/** An order as the shop takes it. */
export interface Order {
  readonly id: string
  readonly customer: string
  /** In the input's own unit; the shop passes it on and never calculates with it. */
  readonly amount: number
  /** Where it stood in the input, from 1: grows with every order of a customer. */
  readonly line: number
}

const name = z
  .string()
  .min(1)
  .max(200)
  .regex(/^[^\p{Cc}\p{Cs}]*$/u, 'control characters and half surrogates are not allowed')

export const orderSchema: z.ZodType<Order, Order> = z.object({
  id: name,
  customer: name,
  amount: z.number().nonnegative(),
  line: z.int().positive(),
})

/** Orders, in the order in which each customer placed them. */
export const Orders: Topic<Order> = topic('orders', {
  schema: orderSchema,
  key: (order) => order.customer,
})

/** The group of consumers that charges orders. */
export const BILLING = 'billing'

/** Where a broker has partitions, two billing processes share this many. */
export const PARTITIONS = 4

/** Delays at which retries wait in a broker that has none of its own; the shop's longest is 2 s. */
export const RETRY_LEVELS_MS: readonly number[] = [1_000, 5_000]
