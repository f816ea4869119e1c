import type { ConnectionOptions } from 'node:tls'

import type { BrokerContext } from '../../src/contract/broker.ts'
import { HoldfastError, isHoldfastError, OptionError } from '../../src/contract/errors.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import { loadAmqplib, partsOf, type Amqplib, type ChannelModel } from './client.ts'
import { corkFlushes } from './cork.ts'
import { TokenRefresh } from './credentials.ts'
import { Endpoints, type Endpoint } from './endpoints.ts'
import type { Credentials, Resolved } from './options.ts'
import { AmqpWire, type Wire } from './wire.ts'

const KEEP_ALIVE_DELAY_MS = 30_000

/** A connection that was just opened, and how to end its socket. */
interface Socket {
  readonly model: ChannelModel
  readonly end: () => void
}

/** What keeping connections needs of it. */
export type Connecting = Pick<Connector, 'open' | 'onOpen'>

/** Opens connections to one cluster, each by the next address. */
export class Connector {
  readonly #options: Resolved
  readonly #context: BrokerContext
  readonly #endpoints: Endpoints
  readonly #listeners = new Set<() => void>()
  #generation = 0

  constructor(options: Resolved, context: BrokerContext) {
    this.#options = options
    this.#context = context
    this.#endpoints = new Endpoints(options.urls, context.random)
  }

  /**
   * One try, `connectTimeoutMs` at most. Rejects with code `connection-lost` when nobody answers,
   * `unavailable` when the broker or the provider of credentials says no, `missing-package` without
   * amqplib. Ends early when the signal aborts.
   */
  async open(purpose: string, signal?: AbortSignal): Promise<Wire> {
    const endpoint = this.#endpoints.present
    try {
      const amqplib = await loadAmqplib()
      const credentials = await this.#credentials(endpoint)
      const socket = await this.#connect(amqplib, endpoint, credentials, purpose, signal)
      const wire = this.#wire(endpoint, credentials, socket)
      for (const listener of [...this.#listeners]) listener()
      return wire
    } catch (error) {
      this.#endpoints.failed(endpoint)
      throw openError(error, endpoint)
    }
  }

  /** Told of every connection that opens, for whatever purpose; returns how to end that. */
  onOpen(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  async #connect(
    amqplib: Amqplib,
    endpoint: Endpoint,
    credentials: Credentials,
    purpose: string,
    signal: AbortSignal | undefined,
  ): Promise<Socket> {
    const { clock } = this.#context
    const timeoutMs = this.#options.connectTimeoutMs
    const controller = new AbortController()
    const end = (): void => controller.abort()
    const opening = amqplib.connect(this.#address(endpoint, credentials), {
      ...(this.#options.tls as ConnectionOptions | null | undefined),
      ...('external' in credentials && { credentials: amqplib.credentials.external() }),
      timeout: timeoutMs,
      noDelay: true,
      keepAlive: true,
      keepAliveDelay: KEEP_ALIVE_DELAY_MS,
      clientProperties: { connection_name: `${this.#options.connectionName} ${purpose}` },
      // Given to the socket: the one way to end it, before as after it is open.
      signal: controller.signal,
    } as Parameters<Amqplib['connect']>[1])
    signal?.addEventListener('abort', end, { once: true })
    if (signal?.aborted === true) end()
    try {
      const deadline = clock.now() + timeoutMs
      const model = await withDeadline(clock, deadline, () => opening, 'the connection')
      return { model, end }
    } catch (error) {
      opening.then(ended, () => undefined)
      end()
      throw error
    } finally {
      signal?.removeEventListener('abort', end)
    }
  }

  #address(endpoint: Endpoint, credentials: Credentials): Parameters<Amqplib['connect']>[0] {
    const { protocol, hostname, port, vhost } = endpoint
    const heartbeat = this.#options.heartbeatS
    const login = 'external' in credentials ? {} : credentials
    return { protocol, hostname, port, vhost, heartbeat, ...login }
  }

  #wire(endpoint: Endpoint, credentials: Credentials, { model, end }: Socket): Wire {
    const { clock, random } = this.#context
    const wire = new AmqpWire({
      model,
      generation: ++this.#generation,
      url: endpoint.shown,
      clock,
      rpcTimeoutMs: this.#options.rpcTimeoutMs,
      destroySocket: end,
    })
    corkFlushes(partsOf(model))
    const refresh = new TokenRefresh({
      clock,
      random,
      ask: () => this.#credentials(endpoint),
      update: (token) => {
        const work = () => model.updateSecret(Buffer.from(token), 'a newer token')
        return wire.rpc('connection.update-secret', work)
      },
      failed: (cause) => wire.destroy(new Error('the token was not renewed', { cause })),
    })
    refresh.follow(credentials)
    wire.onClose((error) => {
      refresh.stop()
      if (error.code !== 'closed') this.#endpoints.failed(endpoint)
    })
    return wire
  }

  async #credentials(endpoint: Endpoint): Promise<Credentials> {
    const provider = this.#options.credentials
    if (provider) return this.#asked(provider)
    const { username, password } = endpoint
    if (username !== '' || password !== '') return { username, password }
    return { username: 'guest', password: 'guest' }
  }

  async #asked(provider: () => Promise<Credentials>): Promise<Credentials> {
    const { clock } = this.#context
    const deadline = clock.now() + this.#options.connectTimeoutMs
    try {
      return checked(await withDeadline(clock, deadline, provider, 'credentials()'))
    } catch (cause) {
      const text = `credentials() failed: ${(cause as Error | null)?.message ?? String(cause)}`
      throw new HoldfastError('unavailable', text, { cause })
    }
  }
}

/** A life that is no time would be renewed for ever, or never. */
function checked(given: Credentials): Credentials {
  const lifeMs: unknown = 'expiresInMs' in given ? given.expiresInMs : undefined
  if (lifeMs === undefined || (Number.isFinite(lifeMs) && Number(lifeMs) > 0)) return given
  throw new OptionError('expiresInMs', lifeMs, 'milliseconds above 0, or none')
}

/** A connection that came after nobody waited for it any more. */
function ended(model: ChannelModel): void {
  model.on('error', () => undefined)
  model.close().catch(() => undefined)
}

function openError(error: unknown, { shown }: Endpoint): HoldfastError {
  if (isHoldfastError(error) && error.code !== 'timeout') return error
  const text = error instanceof Error ? error.message : String(error)
  const cause = { cause: error }
  if (/ACCESS.REFUSED|\b403\b/i.test(text)) {
    const what = `${shown} refused the login: check user name and password, or what credentials() returns (${text})`
    return new HoldfastError('unavailable', what, cause)
  }
  // amqplib does not pass on why the broker closed instead of opening the virtual host.
  if (/terminated by server|got <ConnectionClose|SASL/i.test(text)) {
    const what = `${shown} refused the connection: check that the virtual host exists and the user may use it (${text})`
    return new HoldfastError('unavailable', what, cause)
  }
  return new HoldfastError('connection-lost', `no connection to ${shown}: ${text}`, cause)
}
