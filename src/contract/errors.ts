import { inspect } from 'node:util'

/** Every code an error of holdfast can carry; closed, so that a switch over it can be exhaustive. */
export const errorCodes = [
  // the caller's mistakes
  'option',
  'topic',
  'group',
  'schema',
  'codec',
  'capability',
  'closed',
  'not-a-transaction',
  'own-transaction',
  // publishing: refused
  'not-sent',
  'predecessor',
  'unroutable',
  'too-large',
  'rejected',
  'buffer-full',
  'aborted',
  'unavailable',
  // publishing: unknown
  'timeout',
  'connection-lost',
  'unanswered',
  // publishing: refused where only one place could have stored it, else unknown
  'nacked',
  // consuming and stores
  'permanent',
  'handler-timeout',
  'commit-unknown',
  'busy',
  'storage-busy',
  'storage-read-only',
  'storage-full',
  'storage-corrupt',
  'storage',
  'topology',
  'destination-gone',
  'settle',
  'missing-package',
] as const

/** One of `errorCodes`. */
export type ErrorCode = (typeof errorCodes)[number]

const brand: unique symbol = Symbol.for('holdfast.error') as never

/** Facts an error may carry beside its text. */
export interface ErrorFacts extends ErrorOptions {
  readonly topic?: string | undefined
  readonly messageId?: string | undefined
}

/** The base of every error holdfast throws or reports. The text says what was wrong, where, and what to do. */
export class HoldfastError extends Error {
  override readonly name: string = 'HoldfastError'
  readonly code: ErrorCode
  readonly topic: string | undefined
  readonly messageId: string | undefined

  constructor(code: ErrorCode, message: string, facts: ErrorFacts = {}) {
    super(message, facts)
    this.code = code
    this.topic = facts.topic
    this.messageId = facts.messageId
    Object.defineProperty(this, brand, { value: true })
  }
}

/** True for holdfast's errors, also those of another copy of the package. */
export function isHoldfastError(error: unknown): error is HoldfastError {
  return typeof error === 'object' && error !== null && brand in error
}

/** An option, argument or configuration value is wrong; the text names it, the value and what is allowed. */
export class OptionError extends HoldfastError {
  override readonly name: string = 'OptionError'
  readonly option: string

  constructor(option: string, value: unknown, allowed: string) {
    super('option', `${option}: got ${shown(value)}; allowed: ${allowed}`)
    this.option = option
  }
}

/** What was asked for cannot be kept by this broker or store; the text lists option, broker and alternatives. */
export class CapabilityError extends HoldfastError {
  override readonly name: string = 'CapabilityError'

  constructor(message: string, facts?: ErrorFacts) {
    super('capability', message, facts)
  }
}

/** A payload does not fit the topic's schema. Nothing was sent. */
export class SchemaError extends HoldfastError {
  override readonly name: string = 'SchemaError'
  readonly issues: readonly { readonly path: string; readonly message: string }[]

  constructor(
    topic: string,
    issues: readonly { readonly path: string; readonly message: string }[],
    facts?: ErrorFacts,
  ) {
    const listed = issues.map(({ path, message }) => `${path || '(root)'}: ${message}`).join('; ')
    super('schema', `payload does not fit the schema of topic "${topic}": ${listed}`, {
      ...facts,
      topic,
    })
    this.issues = issues
  }
}

/** A payload cannot be written or read without changing it; the text names the path. */
export class CodecError extends HoldfastError {
  override readonly name: string = 'CodecError'

  constructor(message: string, facts?: ErrorFacts) {
    super('codec', message, facts)
  }
}

/** The publisher, consumer, relay or connection was closed before the call. Nothing was sent. */
export class ClosedError extends HoldfastError {
  override readonly name: string = 'ClosedError'

  constructor(what: string, facts?: ErrorFacts) {
    super('closed', `${what} is closed; make a new one or call before close()`, facts)
  }
}

/** Facts of a publish that did not end confirmed. */
export interface PublishFacts extends ErrorFacts {
  /** May a later try of the same message succeed? Default false. */
  readonly retryable?: boolean | undefined
  readonly attempts?: number | undefined
}

/** The message is definitely not stored. `retryable` says whether trying again can help. */
export class PublishRefusedError extends HoldfastError {
  override readonly name: string = 'PublishRefusedError'
  readonly retryable: boolean
  readonly attempts: number

  constructor(code: ErrorCode, message: string, facts: PublishFacts = {}) {
    super(code, message, facts)
    this.retryable = facts.retryable ?? false
    this.attempts = facts.attempts ?? 0
  }
}

/** The publisher's buffer is at its bound and the option says fail. Nothing was sent; try later. */
export class BufferFullError extends PublishRefusedError {
  override readonly name: string = 'BufferFullError'

  constructor(message: string, facts?: PublishFacts) {
    super('buffer-full', message, { retryable: true, ...facts })
  }
}

/** The message reached no group: no queue, no binding, no such topic. It is stored nowhere. */
export class UnroutableError extends PublishRefusedError {
  override readonly name: string = 'UnroutableError'

  constructor(message: string, facts?: PublishFacts) {
    super('unroutable', message, facts)
  }
}

/** The message is over what the broker takes; the text has both sizes. */
export class TooLargeError extends PublishRefusedError {
  override readonly name: string = 'TooLargeError'

  constructor(message: string, facts?: PublishFacts) {
    super('too-large', message, facts)
  }
}

/** The message may or may not be stored. Publishing it again with the same id is safe behind an inbox. */
export class OutcomeUnknownError extends HoldfastError {
  override readonly name: string = 'OutcomeUnknownError'
  readonly attempts: number

  constructor(code: ErrorCode, message: string, facts: PublishFacts = {}) {
    super(code, message, facts)
    this.attempts = facts.attempts ?? 0
  }
}

/** A store or embedded broker failed; `code` says how (busy, read-only, full, corrupt, other). */
export class StorageError extends HoldfastError {
  override readonly name: string = 'StorageError'
  /** True when waiting may help (busy, unreachable), false when somebody has to act. */
  readonly transient: boolean

  constructor(code: ErrorCode, message: string, facts: ErrorFacts & { transient?: boolean } = {}) {
    super(code, message, facts)
    this.transient = facts.transient ?? false
  }
}

/** Thrown by a handler to say that trying again cannot help: the message is dead-lettered at once. */
export class PermanentError extends HoldfastError {
  override readonly name: string = 'PermanentError'

  constructor(message: string, facts?: ErrorFacts) {
    super('permanent', message, facts)
  }
}

/** A value as an error text may show it: its type and at most 80 characters. */
export function shown(value: unknown): string {
  if (value === undefined || value === null) return String(value)
  if (typeof value === 'function') return `a function${value.name ? ` (${value.name})` : ''}`
  if (typeof value === 'string') return JSON.stringify(clipped(value))
  if (typeof value === 'object') return Array.isArray(value) ? 'an array' : 'an object'
  return clipped(inspect(value))
}

function clipped(text: string): string {
  return text.length > 80 ? `${text.slice(0, 77)}...` : text
}
