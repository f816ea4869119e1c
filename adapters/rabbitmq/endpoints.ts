import type { Random } from '../../src/contract/clock.ts'
import { OptionError } from '../../src/contract/errors.ts'

/** One address of the cluster, taken apart. */
export interface Endpoint {
  readonly protocol: 'amqp' | 'amqps'
  readonly hostname: string
  readonly port: number
  /** As it stands in the URL, still encoded; empty is the default one. */
  readonly vhost: string
  readonly username: string
  readonly password: string
  /** For texts: without credentials. */
  readonly shown: string
}

const DEFAULT_PORTS = { amqp: 5672, amqps: 5671 } as const

/** Takes a URL of the resolved options apart; throws an `OptionError` for credentials that cannot be decoded. */
function endpointOf(url: string): Endpoint {
  const parts = new URL(url)
  const protocol = parts.protocol === 'amqps:' ? 'amqps' : 'amqp'
  const hostname = parts.hostname.replace(/^\[|\]$/g, '')
  const port = parts.port === '' ? DEFAULT_PORTS[protocol] : Number(parts.port)
  return Object.freeze({
    protocol,
    hostname,
    port,
    vhost: parts.pathname.slice(1),
    username: decoded(parts.username),
    password: decoded(parts.password),
    shown: `${protocol}://${parts.hostname}:${port}${parts.pathname}`,
  })
}

/** The addresses of one cluster, in an order of chance; a failing one goes to the end of the queue. */
export class Endpoints {
  readonly #endpoints: Endpoint[]

  constructor(urls: readonly string[], random: Random) {
    this.#endpoints = urls.map(endpointOf)
    for (let last = this.#endpoints.length - 1; last > 0; last--) {
      this.#swap(last, Math.floor(random.next() * (last + 1)))
    }
  }

  /** Whose turn it is. */
  get present(): Endpoint {
    return this.#endpoints[0] as Endpoint
  }

  /** It failed: all others come before it. */
  failed(endpoint: Endpoint): void {
    const at = this.#endpoints.indexOf(endpoint)
    if (at >= 0) this.#endpoints.push(...this.#endpoints.splice(at, 1))
  }

  #swap(one: number, other: number): void {
    const kept = this.#endpoints[one] as Endpoint
    this.#endpoints[one] = this.#endpoints[other] as Endpoint
    this.#endpoints[other] = kept
  }
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    throw new OptionError('url', 'credentials with a bare "%"', 'percent-encoded credentials')
  }
}
