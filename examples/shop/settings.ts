import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import type { FailurePlan } from './charge-failures.ts'
import type { BrokerName } from './options.ts'
import type { Fields } from './parse-order.ts'

/** What every process of the shop knows; written once, before the first of them starts. */
export interface Settings {
  readonly dir: string
  readonly broker: BrokerName
  readonly url: string | null
  /** Stands before every name on a broker that other runs use too. */
  readonly prefix: string | null
  readonly input: { readonly path: string; readonly bytes: number; readonly fields: Fields }
  /** Orders per second; null: as fast as it goes. */
  readonly ratePerSecond: number | null
  readonly failures: FailurePlan
}

/** Where things are in the folder of a run. */
export const files = {
  /** Orders, charges, outbox and inbox. */
  shop: (dir: string): string => join(dir, 'shop.db'),
  /** The broker, when it is the embedded one. */
  broker: (dir: string): string => join(dir, 'broker.db'),
  input: (dir: string): string => join(dir, 'input.ndjson'),
  settings: (dir: string): string => join(dir, 'settings.json'),
  history: (dir: string, proc: string): string => join(dir, `${proc}.history.ndjson`),
  log: (dir: string, proc: string): string => join(dir, `${proc}.log`),
}

export function writeSettings(settings: Settings): void {
  writeFileSync(files.settings(settings.dir), JSON.stringify(settings, null, 2))
}

export function readSettings(dir: string): Settings {
  return JSON.parse(readFileSync(files.settings(dir), 'utf8')) as Settings
}
