import type { Inspector } from '../../src/contract/broker.ts'
import { sleep, type Clock } from '../../src/contract/clock.ts'
import { CapabilityError, HoldfastError } from '../../src/contract/errors.ts'
import type { Destination, Envelope } from '../../src/contract/message.ts'
import type { Channel, GetMessage } from './client.ts'
import { REPLY, replyCodeOf } from './errors.ts'
import { incoming } from './incoming.ts'
import type { Operations } from './operations.ts'
import type { TopicTable } from './topics.ts'
import type { Wire } from './wire.ts'

/** What an inspector reaches the broker through; throws while the broker is not open. */
export interface Insight {
  readonly operations: Operations
  readonly topics: TopicTable
  readonly clock: Clock
}

/** Bodies that one look holds at most; it ends early there. */
const MOST_BYTES = 64 * 1024 * 1024
/** Messages that one look takes at most. */
const MOST_MESSAGES = 2_000
const GIVEN_BACK_MS = 1_000

/**
 * Looks into queues. Depth counts what is ready: what a consumer holds unsettled is not told over AMQP.
 * Browsing fetches messages and gives them back unsettled, in their place; up to RabbitMQ 4.2 each look
 * at a group's quorum queue counts as a failed delivery, from 4.3 on it does not. A queue with a single
 * active consumer (that of an ordered topic's group) cannot be looked into.
 */
export class RabbitmqInspector implements Inspector {
  readonly #insight: () => Insight

  constructor(insight: () => Insight) {
    this.#insight = insight
  }

  async depth(destination: Destination): Promise<number> {
    let depth = 0
    for (const queue of this.#queues(destination)) depth += await this.#count(queue)
    return depth
  }

  async browse(destination: Destination, limit: number): Promise<readonly Envelope[]> {
    const found: Envelope[] = []
    for (const queue of this.#queues(destination)) {
      const left = Math.min(limit, MOST_MESSAGES) - found.length
      if (left > 0) found.push(...(await this.#look(queue, destination, left)))
    }
    return found
  }

  async #look(queue: string, to: Destination, limit: number): Promise<readonly Envelope[]> {
    const { operations, topics } = this.#insight()
    const ordered = to.kind !== 'reply' && topics.of(to.topic).ordered
    const found: Envelope[] = []
    const before = await this.#count(queue)
    try {
      await operations.apart(`looking into queue "${queue}"`, async (channel, wire) => {
        for await (const message of fetched(channel, wire, queue, limit)) {
          const envelope = incoming(message, to, ordered ? 'key' : 'none', queue)
          // The body is a view on what came from the socket.
          found.push({ ...envelope, body: envelope.body && Uint8Array.from(envelope.body) })
        }
      })
    } catch (error) {
      throw isExclusive(error) ? notShown(queue, error) : error
    }
    if (found.length > 0) await this.#given(queue, before)
    return found
  }

  /** Giving back is not answered: until the queue shows it, or somebody consumes, a second at most. */
  async #given(queue: string, before: number): Promise<void> {
    const { clock } = this.#insight()
    const deadline = clock.now() + GIVEN_BACK_MS
    while ((await this.#count(queue)) < before && clock.now() < deadline) await sleep(clock, 10)
  }

  async #count(queue: string): Promise<number> {
    const doing = `counting queue "${queue}"`
    const { operations } = this.#insight()
    return (await operations.run(doing, (channel) => channel.checkQueue(queue))).messageCount
  }

  #queues(destination: Destination): readonly string[] {
    if (destination.kind === 'reply') {
      throw new HoldfastError('topology', 'RabbitMQ has no destination for replies')
    }
    const plan = this.#insight().topics.of(destination.topic)
    if (destination.kind === 'topic') return [...plan.groups].flatMap((group) => plan.queues(group))
    const { group } = destination
    if (destination.kind === 'dead') return [plan.dead(group)]
    const { delayMs } = destination
    return delayMs > 0 ? [plan.retry(group, delayMs).exchange] : plan.queues(group)
  }
}

/** The oldest messages, given back together when it ends: giving one back at a time would fetch it again. */
async function* fetched(
  channel: Channel,
  wire: Wire,
  queue: string,
  limit: number,
): AsyncGenerator<GetMessage> {
  const get = () => channel.get(queue, { noAck: false })
  let bytes = 0
  let count = 0
  try {
    while (count < limit && bytes < MOST_BYTES) {
      const message = await wire.rpc(`fetching from queue "${queue}"`, get)
      if (message === false) return
      count++
      bytes += message.content.length
      yield message
    }
  } finally {
    if (count > 0) channel.nackAll(true)
  }
}

/** The broker answers 405 for a queue with a single active consumer. */
function isExclusive(error: unknown): boolean {
  const code = replyCodeOf(error)
  return code === REPLY.resourceLocked || code === REPLY.notImplemented
}

function notShown(queue: string, cause: unknown): CapabilityError {
  const text = `queue "${queue}" has a single active consumer, since its topic is ordered: RabbitMQ lets nobody else look into it; look at its depth, or at the group's dead letters`
  return new CapabilityError(text, { cause })
}
