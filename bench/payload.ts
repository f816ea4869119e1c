/** What the bench publishes: an order as a shop would write it, 256 bytes as JSON. */
export interface Order {
  readonly order: string
  readonly customer: string
  readonly cents: number
  readonly currency: string
  readonly paid: boolean
  readonly lines: readonly { readonly sku: string; readonly count: number }[]
  readonly note: string
}

const BYTES = 256
const CUSTOMERS = 1_000

function unpadded(number: number): Order {
  const digits = String(number).padStart(8, '0')
  return {
    order: `o-${digits}`,
    customer: `c-${String(number % CUSTOMERS).padStart(4, '0')}`,
    cents: 1_000 + (number % 9_000),
    currency: 'EUR',
    paid: number % 2 === 0,
    lines: [
      { sku: 'sku-4711', count: 1 },
      { sku: 'sku-0815', count: 3 },
    ],
    note: '',
  }
}

/** The `number`th order; orders of `CUSTOMERS` customers take turns. */
export function makeOrder(number: number): Order {
  const order = unpadded(number)
  return { ...order, note: 'x'.repeat(BYTES - JSON.stringify(order).length) }
}

/** The first `count` orders, made before the clock starts. */
export function makeOrders(count: number): readonly Order[] {
  return Array.from({ length: count }, (_, number) => makeOrder(number))
}

/** The plainest payload of 256 bytes: two texts. */
export interface Note {
  readonly customer: string
  readonly text: string
}

/** The first `count` notes; those of `CUSTOMERS` customers take turns. */
export function makeNotes(count: number): readonly Note[] {
  return Array.from({ length: count }, (_, number) => {
    const note = { customer: `c-${String(number % CUSTOMERS).padStart(4, '0')}`, text: '' }
    return { ...note, text: 'x'.repeat(BYTES - JSON.stringify(note).length) }
  })
}
