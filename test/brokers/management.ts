const TIMEOUT_MS = 20_000

/** What the management API says of a queue, as far as tests read it. */
export interface QueueFacts {
  readonly name: string
  readonly type: string
  readonly messages?: number
  readonly leader?: string
  readonly online?: readonly string[]
  readonly members?: readonly string[]
  readonly arguments: Readonly<Record<string, unknown>>
}

/** RabbitMQ's management HTTP API on one node. */
export class Management {
  /** With user and password. */
  readonly url: string
  readonly #base: string
  readonly #authorization: string

  constructor(port: number, user = 'guest', password = 'guest') {
    this.url = `http://${user}:${password}@127.0.0.1:${port}`
    this.#base = `http://127.0.0.1:${port}/api/`
    this.#authorization = `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`
  }

  /** The answer to a GET, for example of `overview`; rejects on any status but 2xx. */
  async get<T>(path: string): Promise<T> {
    return (await (await this.#ask('GET', path)).json()) as T
  }

  async put(path: string, body: unknown = {}): Promise<void> {
    await this.#ask('PUT', path, body)
  }

  async post<T>(path: string, body: unknown = {}): Promise<T> {
    const answer = await (await this.#ask('POST', path, body)).text()
    return (answer === '' ? null : JSON.parse(answer)) as T
  }

  /** What is not there counts as deleted. */
  async delete(path: string): Promise<void> {
    await this.#ask('DELETE', path, undefined, [404])
  }

  queue(vhost: string, name: string): Promise<QueueFacts> {
    return this.get(`queues/${part(vhost)}/${part(name)}`)
  }

  queues(vhost: string): Promise<readonly QueueFacts[]> {
    return this.get(`queues/${part(vhost)}`)
  }

  deleteQueue(vhost: string, name: string): Promise<void> {
    return this.delete(`queues/${part(vhost)}/${part(name)}`)
  }

  /** A new virtual host for `guest`, so that tests do not meet. */
  async createVhost(name: string): Promise<void> {
    await this.put(`vhosts/${part(name)}`)
    const everything = { configure: '.*', write: '.*', read: '.*' }
    await this.put(`permissions/${part(name)}/guest`, everything)
  }

  deleteVhost(name: string): Promise<void> {
    return this.delete(`vhosts/${part(name)}`)
  }

  async #ask(
    method: string,
    path: string,
    body?: unknown,
    fine: readonly number[] = [],
  ): Promise<Response> {
    const answer = await fetch(this.#base + path, {
      method,
      headers: { authorization: this.#authorization, 'content-type': 'application/json' },
      signal: AbortSignal.timeout(TIMEOUT_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    if (answer.ok || fine.includes(answer.status)) return answer
    throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`)
  }
}

const part = encodeURIComponent
