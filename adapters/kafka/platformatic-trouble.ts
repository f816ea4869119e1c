import { isHoldfastError, type HoldfastError } from '../../src/contract/errors.ts'
import { chainOf } from './error-chain.ts'

/** The package's code for log-ins that failed. */
export const REFUSED_LOGIN = 'PLT_KFK_AUTHENTICATION'

/** A connection that could not be made or was lost, by whatever error says so. */
export class ConnectionTrouble extends Error {
  override readonly name: string

  constructor(name: 'ConnectionTrouble' | 'LoginTrouble', message: string, cause: unknown) {
    super(message, { cause })
    this.name = name
  }
}

/**
 * What the package says of a connection, told apart: refused log-ins do not pass by themselves, and what is
 * ours is passed on.
 */
export function platformaticTrouble(error: unknown): ConnectionTrouble | HoldfastError {
  const chain = chainOf(error)
  const own = chain.find((one) => isHoldfastError(one))
  if (own !== undefined) return own
  const isLogin = chain.some(({ code }) => code === REFUSED_LOGIN)
  const [innermost] = chain.slice(-1)
  const text = innermost?.message ?? String(error)
  return new ConnectionTrouble(isLogin ? 'LoginTrouble' : 'ConnectionTrouble', text, error)
}
