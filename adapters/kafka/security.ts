import { OptionError } from '../../src/contract/errors.ts'
import { checkObject, choiceOption, refuseUnknownOptions } from '../../src/contract/option.ts'

/** TLS material, as `node:tls` takes it. `cert` and `key` are the client's own identity (mTLS). */
export interface TlsOptions {
  readonly ca?: string | Buffer | readonly (string | Buffer)[]
  readonly cert?: string | Buffer
  readonly key?: string | Buffer
  readonly passphrase?: string
  /** Default: the host name of each broker. */
  readonly servername?: string
  /** Default true; `false` is warned about, since anybody may then sit in between. */
  readonly rejectUnauthorized?: boolean
}

/** How connections log in. */
export type SaslOptions =
  | {
      readonly mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512'
      readonly username: string
      readonly password: string
    }
  /** Asked for a token on every log-in, and again before the broker's session ends. */
  | { readonly mechanism: 'oauthbearer'; readonly token: () => Promise<string> }

const mechanisms = ['plain', 'scram-sha-256', 'scram-sha-512', 'oauthbearer'] as const

const tlsNames: readonly (keyof TlsOptions)[] = [
  'ca',
  'cert',
  'key',
  'passphrase',
  'servername',
  'rejectUnauthorized',
]

/** The option `tls`, checked and frozen; `true` is TLS by the system's authorities. Throws an `OptionError` without secrets. */
export function resolveTls(given: unknown): TlsOptions | null {
  if (given === undefined || given === false) return null
  if (given === true) return Object.freeze({})
  if (typeof given !== 'object' || given === null) {
    throw new OptionError('tls', given, `true, false or { ${tlsNames.join(', ')} }`)
  }
  refuseUnknownOptions('tls', given, tlsNames)
  const tls = given as TlsOptions
  if ((tls.cert === undefined) !== (tls.key === undefined)) {
    const missing = tls.cert === undefined ? 'cert' : 'key'
    throw new OptionError(`tls.${missing}`, undefined, 'cert and key together, or neither')
  }
  return Object.freeze({ ...tls })
}

/** The option `sasl`, checked and frozen. Throws an `OptionError` that never shows a password. */
export function resolveSasl(given: unknown): SaslOptions | null {
  if (given === undefined) return null
  checkObject('sasl', given)
  const sasl = given as SaslOptions
  // Not given at all is no choice of the first.
  const mechanism = choiceOption('sasl.mechanism', sasl.mechanism ?? null, 'plain', mechanisms)
  if (mechanism === 'oauthbearer') return resolveToken(sasl)
  refuseUnknownOptions('sasl', sasl, ['mechanism', 'username', 'password'])
  const { username, password } = sasl as { username?: unknown; password?: unknown }
  if (!isText(username)) throw new OptionError('sasl.username', username, 'a text')
  if (!isText(password)) throw new OptionError('sasl.password', hidden(password), 'a text')
  return Object.freeze({ mechanism, username, password })
}

function resolveToken(sasl: SaslOptions): SaslOptions {
  refuseUnknownOptions('sasl', sasl, ['mechanism', 'token'])
  const { token } = sasl as { token?: unknown }
  if (typeof token !== 'function') {
    const allowed = 'a function that returns a promise of the token'
    throw new OptionError('sasl.token', hidden(token), allowed)
  }
  return Object.freeze({ mechanism: 'oauthbearer', token: token as () => Promise<string> })
}

const isText = (value: unknown): value is string => typeof value === 'string' && value !== ''

function hidden(value: unknown): unknown {
  return value === undefined || value === '' ? value : 'something else'
}
