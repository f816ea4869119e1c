import type { Broker } from '../contract/broker.ts'
import { systemClock } from '../contract/clock.ts'
import { HoldfastError, isHoldfastError, OptionError } from '../contract/errors.ts'
import type { InboxStore, OutboxStore } from '../contract/store.ts'
import { integerOption, refuseUnknownOptions } from '../contract/option.ts'
import { ReliablePublisher } from '../publish/publisher.ts'
import { OutboxRelay } from '../publish/relay.ts'
import { brokerOf, inboxOf, outboxOf } from './adapters.ts'
import type { HoldfastConfig, TransactionOf } from './define.ts'
import { loadConfig } from './load.ts'
import { Messaging, told, type Parts } from './messaging.ts'
import { isSameDatabase, type ChosenStore } from './same-database.ts'

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
  const handlerOutbox = sharesDatabase(config, inbox) ? outbox : null
  const publisher = newPublisher(config, broker, outbox)
  try {
    const relay = newRelay(config, broker, outbox)
    return { config, broker, outbox, inbox, handlerOutbox, publisher, relay, clock: systemClock }
  } catch (error) {
    // It has a share in the broker already, which would stay open behind whoever shares it next.
    await publisher.close({ timeoutMs: 0 })
    throw error
  }
}

function newPublisher(
  config: HoldfastConfig,
  broker: Broker,
  outbox: OutboxStore<unknown> | null,
): ReliablePublisher {
  return new ReliablePublisher<unknown>({
    ...told(config),
    broker,
    ...(outbox === null ? {} : { outbox }),
    ...(config.source === undefined ? {} : { source: config.source }),
  })
}

function newRelay(
  config: HoldfastConfig,
  broker: Broker,
  outbox: OutboxStore<unknown> | null,
): OutboxRelay | null {
  if (outbox === null || config.relay === false) return null
  const settings = typeof config.relay === 'object' ? config.relay : {}
  return new OutboxRelay<unknown>({ ...told(config), broker, ...settings, outbox })
}

/**
 * Whether handlers can publish in the inbox's transaction: both stores are the same database. Of store
 * objects only their maker knows; a wrong pair fails with a named error at the first `context.publish`.
 */
function sharesDatabase(config: HoldfastConfig, inbox: InboxStore<unknown> | null): boolean {
  if (config.outbox === undefined) return false
  if (inbox === null) return true
  if (!isChosen(config.outbox) || !isChosen(config.inbox)) return true
  return isSameDatabase(config.outbox, config.inbox)
}

function isChosen(
  store: HoldfastConfig['outbox'] | HoldfastConfig['inbox'],
): store is ChosenStore & { readonly use: 'memory' | 'sqlite' } {
  return store !== undefined && 'use' in store
}

async function waitForBroker({ config, publisher }: Parts<unknown, unknown>): Promise<void> {
  const { waitForBrokerMs } = config
  if (waitForBrokerMs === undefined) return
  try {
    await publisher.open({ timeoutMs: waitForBrokerMs })
  } catch (error) {
    if (!isHoldfastError(error) || error.code !== 'timeout') throw error
    const text = `the broker did not answer within ${waitForBrokerMs} ms (waitForBrokerMs)`
    throw new HoldfastError('timeout', text, { cause: error })
  }
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
