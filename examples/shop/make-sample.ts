/**
 * Writes the sample orders: `node dist/examples/shop/make-sample.js > examples/shop/orders.ndjson`.
 * The same file every time: chance comes from a fixed seed.
 */
import { draw } from './chance.ts'

const ORDERS = 5_000
const CUSTOMERS = 400
const FIRST_ORDER_MS = Date.UTC(2026, 2, 2, 8)

/** Few customers order often, many order seldom: the nth with a weight of 1/n. */
const weights = Array.from({ length: CUSTOMERS }, (_, index) => 1 / (index + 1))
const allWeights = weights.reduce((sum, weight) => sum + weight, 0)

function customer(chance: number): string {
  let left = chance * allWeights
  const rank = weights.findIndex((weight) => (left -= weight) < 0)
  // Ranks are scattered over the numbers: who orders most is not the first of the list.
  return `c-${String(((rank * 173) % CUSTOMERS) + 1).padStart(4, '0')}`
}

/** Most baskets are small, some are large; prices end with 9. */
function basket(n: number): readonly { sku: string; quantity: number; cents: number }[] {
  const items = 1 + Math.floor(draw('items', n) ** 3 * 6)
  return Array.from({ length: items }, (_, index) => ({
    sku: `sku-${100 + Math.floor(draw('sku', n, index) ** 2 * 250)}`,
    quantity: 1 + Math.floor(draw('quantity', n, index) ** 4 * 5),
    cents: 199 + Math.floor(Math.exp(draw('price', n, index) * 4) * 10) * 10,
  }))
}

let placedAtMs = FIRST_ORDER_MS
for (let n = 1; n <= ORDERS; n++) {
  placedAtMs += Math.round(-Math.log(1 - draw('pause', n)) * 9_000)
  const items = basket(n)
  const order = {
    id: `A-${String(100_000 + n)}`,
    customer: customer(draw('customer', n)),
    amount: items.reduce((sum, { quantity, cents }) => sum + quantity * cents, 0),
    currency: 'EUR',
    items,
    placedAt: new Date(placedAtMs).toISOString(),
  }
  process.stdout.write(`${JSON.stringify(order)}\n`)
}
