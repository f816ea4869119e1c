/** An error of a client, as far as it is looked at. */
export interface ClientError {
  readonly name: string
  readonly message: string
  readonly type?: string
  readonly code?: number | string
  readonly retriable?: boolean
  readonly cause?: unknown
  readonly errors?: readonly unknown[]
}

/** As many layers as are looked at. */
const DEEPEST = 10

/** From the outside in: clients wrap an error once for each layer that gave up. */
export function chainOf(error: unknown): readonly ClientError[] {
  const found: ClientError[] = []
  let one = error
  while (typeof one === 'object' && one !== null && found.length < DEEPEST) {
    const next = one as ClientError
    found.push(next)
    one = next.errors?.[0] ?? next.cause
  }
  return found
}
