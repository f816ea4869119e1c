import type {
  Channel,
  ChannelModel,
  ConfirmChannel,
  ConsumeMessage,
  GetMessage,
  Message,
  MessageProperties,
} from 'amqplib'

import { HoldfastError } from '../../src/contract/errors.ts'

export type { Channel, ChannelModel, ConfirmChannel, ConsumeMessage, GetMessage, Message }

/** Properties of a received message, as amqplib hands them over. */
export type Properties = MessageProperties

/** The part of the package that is used. */
export type Amqplib = Pick<typeof import('amqplib'), 'connect' | 'credentials'>

/**
 * Loads amqplib on first use. Rejects with a `HoldfastError` (code `missing-package`) that names the
 * install command when it is not installed.
 */
export async function loadAmqplib(
  load: () => Promise<Amqplib> = () => import('amqplib'),
): Promise<Amqplib> {
  try {
    return await load()
  } catch (cause) {
    const text = `the RabbitMQ adapter needs the package amqplib (>=2.3.1 <3): npm install amqplib`
    throw new HoldfastError('missing-package', text, { cause })
  }
}

/** A writable stream that can hold its bytes back: the socket. */
export interface Corkable {
  cork(): void
  uncork(): void
}

/** The private parts of a connection, as far as this version of amqplib has them. */
export interface ConnectionParts {
  readonly stream: Corkable | null
  /** What collects the frames of all channels and writes them to the socket; its method `FLUSH` does it. */
  readonly muxer: Record<string, () => void> | null
  /** Already over, before anybody could listen for it. */
  readonly isOver: boolean
}

/** The muxer's method that writes what was collected. */
export const FLUSH = '_readIncoming'

/** Looks into a connection; what is not where it is known to be is `null`, and done without. */
export function partsOf(model: ChannelModel): ConnectionParts {
  const insides = model.connection as unknown as Record<string, unknown>
  const { stream, muxer, expectSocketClose } = insides
  const corkable = hasMethod(stream, 'cork') && hasMethod(stream, 'uncork')
  return {
    stream: corkable ? (stream as Corkable) : null,
    muxer: hasMethod(muxer, FLUSH) ? (muxer as Record<string, () => void>) : null,
    isOver: expectSocketClose === true,
  }
}

/** Whether it is an object that has the method. */
export function hasMethod(value: unknown, name: string): boolean {
  if (typeof value !== 'object' || value === null) return false
  return typeof (value as Record<string, unknown>)[name] === 'function'
}
