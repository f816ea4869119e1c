import { HoldfastError, isHoldfastError, type ErrorCode } from '../../src/contract/errors.ts'
import { chainOf } from './error-chain.ts'

/** Kafka's error codes that mean something to the admin. */
export const KAFKA = {
  unknownTopic: 3,
  leaderNotAvailable: 5,
  notLeader: 6,
  unknownMember: 25,
  topicAuthorization: 29,
  groupAuthorization: 30,
  clusterAuthorization: 31,
  illegalSaslState: 34,
  topicExists: 36,
} as const

/** Not answers of a broker, and over when a node is back or another is asked. */
const connectionTrouble: ReadonlySet<string> = new Set([
  'ConnectionTrouble',
  'KafkaJSConnectionError',
  'KafkaJSConnectionClosedError',
  'KafkaJSBrokerNotFound',
  'KafkaJSLockTimeout',
  'KafkaJSMetadataNotLoaded',
  'KafkaJSNoBrokerAvailableError',
  'KafkaJSRequestTimeoutError',
])

/** Names of what clients say when a log-in is refused. */
const loginTrouble: ReadonlySet<string> = new Set([
  'KafkaJSSASLAuthenticationError',
  'LoginTrouble',
])

const forbidden: readonly unknown[] = [
  KAFKA.topicAuthorization,
  KAFKA.groupAuthorization,
  KAFKA.clusterAuthorization,
]

/** The broker's own error inside of what a client made of it; `null` when no broker said it. */
export function brokerErrorOf(error: unknown): { readonly code: number; text: string } | null {
  for (const one of chainOf(error)) {
    if (typeof one.code !== 'number') continue
    return { code: one.code, text: one.type ?? one.message }
  }
  return null
}

/** Whether the same call may work soon. */
export function isPassing(error: unknown): boolean {
  if (isHoldfastError(error)) return error.code === 'unavailable'
  return chainOf(error).some(
    ({ name, code, retriable }) =>
      connectionTrouble.has(name) || (typeof code === 'number' && retriable === true),
  )
}

/** The broker does not allow it to this user. */
export function isForbidden(error: unknown): boolean {
  return forbidden.includes(brokerErrorOf(error)?.code)
}

/** A named error that says what was being done; ours are passed on as they are. */
export function adminError(what: string, error: unknown): HoldfastError {
  if (isHoldfastError(error)) return error
  const broker = brokerErrorOf(error)
  const [innermost] = chainOf(error).slice(-1)
  const why = broker?.text ?? innermost?.message ?? String(error)
  const { code, advice } = meaningOf(error, broker?.code)
  return new HoldfastError(code, `${what} failed: ${why}${advice}`, { cause: error })
}

function meaningOf(
  error: unknown,
  code: number | undefined,
): { readonly code: ErrorCode; readonly advice: string } {
  if (code === KAFKA.unknownMember) {
    return {
      code: 'busy',
      advice: ': the group has members, which say themselves how far they are',
    }
  }
  if (isForbidden(error)) {
    return { code: 'topology', advice: ': allow it to the user of the connection' }
  }
  const isLogin = chainOf(error).some(({ name }) => loginTrouble.has(name))
  if (isLogin || code === KAFKA.illegalSaslState)
    return { code: 'unavailable', advice: ': look at the option sasl' }
  if (isPassing(error))
    return { code: code === undefined ? 'connection-lost' : 'unavailable', advice: '' }
  return { code: 'topology', advice: '' }
}
