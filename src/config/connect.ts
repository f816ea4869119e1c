import { isDeepStrictEqual } from 'node:util'

import { systemClock } from '../contract/clock.ts'
import { OptionError } from '../contract/errors.ts'
import type { InboxStore } from '../contract/store.ts'
import { integerOption, refuseUnknownOptions } from '../contract/option.ts'
import { withDeadline } from '../policy/deadline.ts'
import { ReliablePublisher } from '../publish/publisher.ts'
import { OutboxRelay } from '../publish/relay.ts'
import { brokerOf, inboxOf, outboxOf } from './adapters.ts'
import type { HoldfastConfig, TransactionOf } from './define.ts'
import { loadConfig } from './load.ts'
import { Messaging, told, type Parts } from './messaging.ts'

const configNames: readonly (keyof HoldfastConfig)[] = [
  'broker',
  'outbox',
  'inbox',
  'topics',
  'topology',
  'source',
  'relay',
  'waitForBrokerMs',
  'on',
  'logging',
]

/** What `connect(config)` resolves with; its transactions have the types of the configured stores. */
export type MessagingOf<Config extends HoldfastConfig> = Messaging<
  TransactionOf<Config['outbox']>,
  TransactionOf<Config['inbox']>
>

/**
 * Turns a config into live messaging; without an argument, the nearest `holdfast.config.*`. Works
 * while the broker is down: `publishIn` works then, `publish` waits within its deadline. Outbox and
 * inbox must be up. Rejects with a `HoldfastError` that says what is wrong, and leaves nothing open.
 */
export async function connect<const Config extends HoldfastConfig>(
  config?: Config,
): Promise<MessagingOf<Config>> {
  const settled = config ?? (await loadConfig())
  checkConfig(settled)
  const parts = await assemble(settled)
  const messaging = new Messaging(parts)
  try {
    await parts.relay?.start()
    await waitForBroker(parts)
  } catch (error) {
    await messaging.close().catch(() => undefined)
    throw error
  }
  return messaging as unknown as MessagingOf<Config>
}

async function assemble(config: HoldfastConfig): Promise<Parts<unknown, unknown>> {
  const broker = await brokerOf(config.broker)
  const outbox = config.outbox === undefined ? null : await outboxOf<unknown>(config.outbox)
  const inbox = config.inbox === undefined ? null : await inboxOf<unknown>(config.inbox)
  const common = { ...told(config), broker }
  const publisher = new ReliablePublisher<unknown>({
    ...common,
    ...(outbox === null ? {} : { outbox }),
    ...(config.source === undefined ? {} : { source: config.source }),
  })
  const relays = outbox !== null && config.relay !== false
  const settings = typeof config.relay === 'object' ? config.relay : {}
  const relay = relays ? new OutboxRelay<unknown>({ ...common, ...settings, outbox }) : null
  const handlerOutbox = sharesDatabase(config, inbox) ? outbox : null
  return { config, broker, outbox, inbox, handlerOutbox, publisher, relay }
}

/**
 * Whether handlers can publish in the inbox's transaction: both stores are the same database. Of store
 * objects only their maker knows; a wrong pair fails with a named error at the first `context.publish`.
 */
function sharesDatabase(config: HoldfastConfig, inbox: InboxStore<unknown> | null): boolean {
  if (config.outbox === undefined) return false
  if (inbox === null) return true
  if (!isChosen(config.outbox) || !isChosen(config.inbox)) return true
  const { use, file, database, url } = config.outbox
  const { inbox: other } = config
  return isDeepStrictEqual(
    { use, file, database, url },
    { use: other.use, file: other['file'], database: other['database'], url: other['url'] },
  )
}

function isChosen(
  store: HoldfastConfig['outbox'] | HoldfastConfig['inbox'],
): store is { readonly use: 'memory' | 'sqlite'; readonly [option: string]: unknown } {
  return store !== undefined && 'use' in store
}

async function waitForBroker({ config, publisher }: Parts<unknown, unknown>): Promise<void> {
  const { waitForBrokerMs } = config
  if (waitForBrokerMs === undefined) return
  const deadline = systemClock.now() + waitForBrokerMs
  await withDeadline(systemClock, deadline, () => publisher.open(), 'the broker (waitForBrokerMs)')
}

function checkConfig(config: HoldfastConfig): void {
  if (typeof config !== 'object' || config === null) {
    throw new OptionError('config', config, 'an object with at least { broker }')
  }
  refuseUnknownOptions('config', config, configNames)
  if (typeof config.broker !== 'object' || config.broker === null) {
    throw new OptionError('config.broker', config.broker, "{ use: 'sqlite', … } or a broker object")
  }
  integerOption('config.waitForBrokerMs', config.waitForBrokerMs, 1, { min: 1 })
}
