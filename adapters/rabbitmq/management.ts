import type { Clock } from '../../src/contract/clock.ts'
import { HoldfastError } from '../../src/contract/errors.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import type { Resolved } from './options.ts'
import type { Setting, Settings } from './wanted.ts'
import { urlText } from './url-text.ts'

/** A queue as the management plugin shows it; fields that a version does not have are missing. */
export interface QueueInfo {
  readonly name: string
  readonly type?: string
  readonly durable?: boolean
  readonly auto_delete?: boolean
  readonly exclusive?: boolean
  readonly arguments?: Settings
  readonly policy?: string | null
  /** Of policy and operator policy together; missing: not known yet, for seconds after the queue was made. */
  readonly effective_policy_definition?: Settings | readonly []
  readonly members?: readonly string[]
  readonly online?: readonly string[]
  readonly state?: string
}

/** An exchange as the management plugin shows it. */
export interface ExchangeInfo {
  readonly type: string
  readonly durable: boolean
  readonly auto_delete: boolean
  readonly arguments?: Settings
  readonly policy?: string | null
}

/** A binding as the management plugin shows it. */
export interface BindingInfo {
  readonly destination: string
  readonly destination_type: 'queue' | 'exchange'
  readonly routing_key: string
}

/** A node as the management plugin shows it. */
export interface NodeInfo {
  readonly name: string
  readonly running?: boolean
  readonly mem_alarm?: boolean
  readonly disk_free_alarm?: boolean
}

/** A policy as it is written. */
export interface Policy {
  readonly pattern: string
  readonly definition: Readonly<Record<string, Setting>>
  readonly priority: number
  readonly 'apply-to': string
}

/** What a management client needs. */
export interface ManagementOptions extends Pick<Resolved, 'urls' | 'credentials' | 'rpcTimeoutMs'> {
  readonly managementUrl: string
  readonly clock: Clock
}

/** Answers are cut off there; those asked for are a few kilobytes each. */
const LONGEST_ANSWER = 8 * 1024 * 1024

/**
 * The management plugin's HTTP API, as far as it is needed. Every call has `rpcTimeoutMs`. Rejects
 * with code `unavailable` when it does not answer or fails, `rejected` when the log-in may not ask.
 */
export class Management {
  readonly #options: ManagementOptions
  readonly #base: URL
  readonly #vhost: string

  constructor(options: ManagementOptions) {
    this.#options = options
    this.#base = new URL(options.managementUrl)
    this.#vhost = encodeURIComponent(vhostOf(options.urls[0] as string))
  }

  async queue(name: string): Promise<QueueInfo | null> {
    const path = `queues/${this.#vhost}/${encodeURIComponent(name)}`
    const info = await this.#get<QueueInfo>(`${path}?disable_stats=true`)
    if (info === null || info.effective_policy_definition !== undefined) return info
    // Before 4.3 policies are among the statistics.
    return this.#get<QueueInfo>(path)
  }

  exchange(name: string): Promise<ExchangeInfo | null> {
    return this.#get(`exchanges/${this.#vhost}/${encodeURIComponent(name)}`)
  }

  /** What the exchange leads to; `null` when there is no such exchange. */
  bindings(exchange: string): Promise<readonly BindingInfo[] | null> {
    const name = encodeURIComponent(exchange)
    return this.#get(`exchanges/${this.#vhost}/${name}/bindings/source`)
  }

  async nodes(): Promise<readonly NodeInfo[]> {
    return (await this.#get<readonly NodeInfo[]>('nodes')) ?? []
  }

  policy(name: string): Promise<Policy | null> {
    return this.#get(`policies/${this.#vhost}/${encodeURIComponent(name)}`)
  }

  async putPolicy(name: string, policy: Policy): Promise<void> {
    const path = `policies/${this.#vhost}/${encodeURIComponent(name)}`
    await this.#ask('PUT', path, JSON.stringify(policy))
  }

  async #get<T>(path: string): Promise<T | null> {
    const text = await this.#ask('GET', path)
    if (text === null) return null
    try {
      return JSON.parse(text) as T
    } catch (cause) {
      throw this.#unavailable(path, 'its answer is no JSON', cause)
    }
  }

  /** The body of the answer; `null` for 404. */
  async #ask(method: 'GET' | 'PUT', path: string, body?: string): Promise<string | null> {
    const { clock, rpcTimeoutMs, managementUrl } = this.#options
    const controller = new AbortController()
    const ask = async (): Promise<string | null> => {
      const { signal } = controller
      const headers = { authorization: await this.#authorization() }
      const content = body === undefined ? null : { 'content-type': 'application/json' }
      const response = await fetch(`${this.#prefix()}/api/${path}`, {
        method,
        headers: { ...headers, ...content },
        ...(body !== undefined && { body }),
        redirect: 'error',
        signal,
      })
      return this.#read(response, path)
    }
    try {
      const what = `${method} ${urlText(managementUrl)}/api/${path}`
      return await withDeadline(clock, clock.now() + rpcTimeoutMs, ask, what)
    } catch (error) {
      if (error instanceof HoldfastError && error.code !== 'timeout') throw error
      throw this.#unavailable(path, error instanceof Error ? error.message : String(error), error)
    } finally {
      controller.abort()
    }
  }

  /** Where the API is, without what may stand in the URL as a log-in: fetch refuses that. */
  #prefix(): string {
    return `${this.#base.origin}${this.#base.pathname.replace(/\/+$/, '')}`
  }

  async #authorization(): Promise<string> {
    const { username, password } = await this.#login()
    if (username === '') return `Bearer ${password}`
    return `Basic ${Buffer.from(`${username}:${password}`, 'utf8').toString('base64')}`
  }

  /** What stands in the URL, else the broker's own log-in. A token without a user name is sent as a token. */
  async #login(): Promise<{ readonly username: string; readonly password: string }> {
    const own = loginOf(this.#base)
    if (own !== null) return own
    const given = await this.#options.credentials?.()
    if (given !== undefined && 'password' in given) return given
    return (
      loginOf(new URL(this.#options.urls[0] as string)) ?? { username: 'guest', password: 'guest' }
    )
  }

  async #read(response: Response, path: string): Promise<string | null> {
    const text = await bodyOf(response)
    if (response.ok) return text
    if (response.status === 404) return null
    const why = `it answered ${response.status}: ${text.slice(0, 300)}`
    if (response.status >= 500) throw this.#unavailable(path, why)
    const advice = 'the log-in needs the tag monitoring to look, policymaker to set policies'
    throw new HoldfastError('rejected', `${this.#where(path)}: ${why}; ${advice}`)
  }

  #unavailable(path: string, why: string, cause?: unknown): HoldfastError {
    const text = `${this.#where(path)} is not to be had now: ${why}`
    return new HoldfastError('unavailable', text, { cause })
  }

  #where(path: string): string {
    return `management API ${urlText(this.#options.managementUrl)} (${path})`
  }
}

async function bodyOf(response: Response): Promise<string> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of response.body ?? []) {
    bytes += (chunk as Uint8Array).length
    if (bytes > LONGEST_ANSWER) throw new Error(`its answer is over ${LONGEST_ANSWER} bytes`)
    chunks.push(chunk as Uint8Array)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function loginOf(url: URL): { readonly username: string; readonly password: string } | null {
  if (url.username === '' && url.password === '') return null
  return {
    username: decodeURIComponent(url.username),
    password: decodeURIComponent(url.password),
  }
}

/** Without a path it is the default one. */
function vhostOf(url: string): string {
  return decodeURIComponent(new URL(url).pathname.slice(1)) || '/'
}
