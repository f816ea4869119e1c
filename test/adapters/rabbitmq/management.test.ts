import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

import { afterEach, describe, expect, it } from 'vitest'

import { Management } from '../../../adapters/rabbitmq/management.ts'
import { resolveOptions, type RabbitmqOptions } from '../../../adapters/rabbitmq/options.ts'
import { systemClock } from '../../../src/contract/clock.ts'

type Answer = (request: IncomingMessage, response: ServerResponse) => void

const ends: (() => void)[] = []
afterEach(() => {
  for (const end of ends.splice(0)) end()
})

/** A management API that answers as a test wants. */
async function api(
  answer: Answer,
  options: Partial<RabbitmqOptions> = {},
  login = '',
): Promise<Management> {
  const server = createServer(answer)
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve))
  ends.push(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  const managementUrl = `http://${login}127.0.0.1:${port}`
  const url = 'amqp://u:p%40ss@host/my%2Fvhost'
  const resolved = resolveOptions({ url, managementUrl, ...options })
  return new Management({ ...resolved, managementUrl, clock: systemClock })
}

describe('the management client', () => {
  it("asks for the URL's virtual host with the broker's log-in", async () => {
    const asked: string[] = []
    const management = await api((request, response) => {
      asked.push(`${request.method} ${request.url} ${request.headers.authorization}`)
      response.end('{"type":"topic","durable":true,"auto_delete":false}')
    })
    expect(await management.exchange('a b')).toMatchObject({ type: 'topic' })
    const login = Buffer.from('u:p@ss').toString('base64')
    expect(asked).toEqual([`GET /api/exchanges/my%2Fvhost/a%20b Basic ${login}`])
  })

  it('sends a token without a user name as a token, asked for every time', async () => {
    const asked: unknown[] = []
    let token = 0
    const management = await api(
      (request, response) => {
        asked.push(request.headers.authorization)
        response.end('[]')
      },
      { credentials: async () => ({ username: '', password: `t${++token}` }) },
    )
    await management.nodes()
    await management.nodes()
    expect(asked).toEqual(['Bearer t1', 'Bearer t2'])
  })

  it("prefers the management URL's own log-in", async () => {
    const asked: unknown[] = []
    const management = await api(
      (request, response) => {
        asked.push(request.headers.authorization)
        response.end('[]')
      },
      { credentials: async () => ({ username: 'other', password: 'word' }) },
      'own:w%2Frd@',
    )
    await management.nodes()
    expect(asked).toEqual([`Basic ${Buffer.from('own:w/rd').toString('base64')}`])
  })

  it('takes 404 for nothing there', async () => {
    const management = await api((_, response) => void response.writeHead(404).end('{}'))
    expect(await management.queue('q')).toBeNull()
    expect(await management.policy('p')).toBeNull()
  })

  it.each<readonly [string, Answer, string, RegExp]>([
    ['says nothing', () => undefined, 'unavailable', /did not end within 300 ms/],
    ['hangs in the middle', (_, r) => void r.write('{"a":'), 'unavailable', /did not end within/],
    ['hangs up', (request) => void request.socket.destroy(), 'unavailable', /fetch failed/],
    ['fails', (_, r) => void r.writeHead(503).end('alarm'), 'unavailable', /answered 503: alarm/],
    [
      'says no',
      (_, r) => void r.writeHead(401).end('who?'),
      'rejected',
      /401: who\?; .*monitoring/,
    ],
    ['is no JSON', (_, r) => void r.end('<html>'), 'unavailable', /no JSON/],
    [
      'is endless',
      (_, r) => {
        const more = (): void => {
          while (!r.destroyed && r.write(Buffer.alloc(1024 * 1024))) continue
        }
        r.on('drain', more)
        more()
      },
      'unavailable',
      /over 8388608 bytes|did not end within/,
    ],
    [
      'leads elsewhere',
      (_, r) => void r.writeHead(302, { location: 'http://127.0.0.1:9/' }).end(),
      'unavailable',
      /fetch failed/,
    ],
  ])('names it when the API %s', async (_, answer, code, message) => {
    // Only where nothing else ends it: a busy machine needs longer for all others.
    const isSilent = message.source.includes('did not end')
    const management = await api(answer, isSilent ? { rpcTimeoutMs: 300 } : {})
    await expect(management.nodes()).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message) as string,
    })
  })
})
