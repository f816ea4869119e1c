import { CapabilityError } from '../../src/contract/errors.ts'
import { ByteWriter } from './byte-writer.ts'
import {
  decodeFetch,
  encodeFetch,
  FETCH,
  type FetchAnswers,
  type FetchLimits,
  type FetchPart,
} from './fetch-protocol.ts'
import { encoded, type ConnectedNode } from './cluster-node.ts'

/**
 * Fetches on a client's connection, past kafkajs's own reading of records, which mixes the order of headers.
 * Waits as long as the client's request timeout.
 */
export async function fetchFrom(
  node: ConnectedNode,
  parts: readonly FetchPart[],
  limits: FetchLimits,
): Promise<FetchAnswers> {
  if ((node.versions?.[FETCH.key]?.maxVersion ?? 0) < FETCH.version) throw tooOld()
  const exchange = {
    request: {
      apiKey: FETCH.key,
      apiVersion: FETCH.version,
      apiName: FETCH.name,
      expectResponse: () => true,
      encode: async () => encoded(encodeFetch(new ByteWriter(), parts, limits)),
    },
    response: {
      decode: async (body: Buffer) => decodeFetch(body),
      parse: async (answers: FetchAnswers) => answers,
    },
  }
  return (await node.connectionPool.send(exchange)) as FetchAnswers
}

function tooOld(): CapabilityError {
  return new CapabilityError('consuming needs Kafka 2.3 or later: this broker is older')
}
