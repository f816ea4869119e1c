import type { MemoryTransaction } from 'holdfast/memory'
import type { SqliteTransaction } from 'holdfast/sqlite'

import type { Broker } from '../contract/broker.ts'
import { OptionError } from '../contract/errors.ts'
import type { InboxStore, OutboxStore } from '../contract/store.ts'
import type { TopicSettings, TopologyMode } from '../contract/topology.ts'
import type { Logging } from '../observe/logging.ts'
import type { Listener } from '../observe/emitter.ts'
import type { CommonOptions } from '../publish/options.ts'
import type { RelayOptions } from '../publish/relay-options.ts'

/** Brokers by name; the adapter's own options stand beside `use`. */
export type BrokerName = 'memory' | 'sqlite' | 'rabbitmq' | 'kafka' | 'rocketmq'

/** What each database hands out as `context.tx` and takes in `publishIn(tx, …)`. */
export interface StoreTransactions {
  readonly memory: MemoryTransaction
  readonly sqlite: SqliteTransaction
}

/** An adapter chosen by name, with its options beside it: `{ use: 'sqlite', file: 'broker.db' }`. */
export interface Chosen<Name extends string> {
  readonly use: Name
  readonly [option: string]: unknown
}

/** What a relay takes beside what the config says anyway. */
export type RelaySettings = Omit<RelayOptions<never>, keyof CommonOptions | 'outbox'>

/** A process's whole messaging, as `holdfast.config.*` exports it. */
export interface HoldfastConfig {
  /** Which broker; changing `use` is the whole swap. An opened-elsewhere `Broker` object is taken too. */
  readonly broker: Chosen<BrokerName> | Broker
  /** Where `publishIn` writes. Default: no outbox. */
  readonly outbox?: Chosen<keyof StoreTransactions> | OutboxStore<never>
  /** Where handled messages are remembered, in the handler's own transaction. Default: no inbox. */
  readonly inbox?: Chosen<keyof StoreTransactions> | InboxStore<never>
  readonly topics?: Readonly<Record<string, TopicSettings>>
  /** Whether to create what is missing on the broker, only look, or do nothing. Default 'create'. */
  readonly topology?: TopologyMode
  /** CloudEvents `source` of what is published. Default `holdfast`. */
  readonly source?: string
  /** Whether this process moves outbox rows to the broker, and how. Default: true when there is an outbox. */
  readonly relay?: boolean | RelaySettings
  /** Fail `connect()` when the broker is not there within that time. Default: do not wait at all. */
  readonly waitForBrokerMs?: number
  /** Hears every event of publisher, relay and consumers. */
  readonly on?: Listener
  /** Default: warnings to stderr. */
  readonly logging?: Logging
}

/** The transaction type that a configured store hands out. */
export type TransactionOf<Store> = Store extends OutboxStore<infer Tx> | InboxStore<infer Tx>
  ? Tx
  : Store extends { readonly use: infer Name extends keyof StoreTransactions }
    ? StoreTransactions[Name]
    : never

/** Gives a config file its types; returns the config as it is. */
export function defineConfig<const Config extends HoldfastConfig>(config: Config): Config {
  return config
}

/**
 * The value of an environment variable, or the fallback. Throws an `OptionError` that names the
 * variable when it is not set and there is no fallback.
 */
export function env(name: string, fallback?: string): string {
  const value = process.env[name] ?? fallback
  if (value !== undefined) return value
  throw new OptionError(`env(${name})`, undefined, 'the environment variable has to be set')
}
