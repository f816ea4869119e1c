import type { Broker } from '../contract/broker.ts'
import { HoldfastError, OptionError } from '../contract/errors.ts'
import type { InboxStore, OutboxStore } from '../contract/store.ts'
import type { Chosen } from './define.ts'

type Kind = 'broker' | 'outbox' | 'inbox'

/** Which door of the package makes what; the name of the function it exports. */
const makers: Readonly<
  Record<Kind, Readonly<Record<string, readonly [door: string, make: string]>>>
> = {
  broker: {
    memory: ['holdfast/memory', 'memory'],
    sqlite: ['holdfast/sqlite', 'sqlite'],
    rabbitmq: ['holdfast/rabbitmq', 'rabbitmq'],
    kafka: ['holdfast/kafka', 'kafka'],
    rocketmq: ['holdfast/rocketmq', 'rocketmq'],
  },
  outbox: {
    memory: ['holdfast/memory', 'memoryOutbox'],
    sqlite: ['holdfast/sqlite', 'sqliteOutbox'],
  },
  inbox: {
    memory: ['holdfast/memory', 'memoryInbox'],
    sqlite: ['holdfast/sqlite', 'sqliteInbox'],
  },
}

/** The broker a config names, made by its adapter's door; an object is taken as it is. */
export async function brokerOf(choice: Chosen<string> | Broker): Promise<Broker> {
  return 'use' in choice ? ((await make('broker', choice)) as Broker) : choice
}

/** The outbox a config names; an object is taken as it is. */
export async function outboxOf<Tx>(
  choice: Chosen<string> | OutboxStore<Tx>,
): Promise<OutboxStore<Tx>> {
  return 'use' in choice ? ((await make('outbox', choice)) as OutboxStore<Tx>) : choice
}

/** The inbox a config names; an object is taken as it is. */
export async function inboxOf<Tx>(
  choice: Chosen<string> | InboxStore<Tx>,
): Promise<InboxStore<Tx>> {
  return 'use' in choice ? ((await make('inbox', choice)) as InboxStore<Tx>) : choice
}

async function make(kind: Kind, { use, ...options }: Chosen<string>): Promise<unknown> {
  const maker = makers[kind][use]
  if (maker === undefined) {
    throw new OptionError(`${kind}.use`, use, Object.keys(makers[kind]).join(', '))
  }
  const [door, name] = maker
  const adapter = await openDoor(kind, use, door)
  return (adapter[name] as (options: object) => unknown)(options)
}

async function openDoor(kind: Kind, use: string, door: string): Promise<Record<string, unknown>> {
  try {
    return (await import(door)) as Record<string, unknown>
  } catch (cause) {
    if ((cause as { code?: string }).code !== 'ERR_PACKAGE_PATH_NOT_EXPORTED') throw cause
    throw new HoldfastError(
      'capability',
      `${kind}.use '${use}': this version of holdfast has no door "${door}"; available here: memory, sqlite, rabbitmq, kafka`,
      { cause },
    )
  }
}
