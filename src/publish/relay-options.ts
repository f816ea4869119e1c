import {
  checkMethod,
  choiceOption,
  integerOption,
  refuseUnknownOptions,
} from '../contract/option.ts'
import type { OutboxStore } from '../contract/store.ts'
import { exponential, type Backoff } from '../policy/backoff.ts'
import {
  commonNames,
  resolveCommonOptions,
  type CommonOptions,
  type ResolvedCommonOptions,
} from './options.ts'

/** Options of `OutboxRelay`. */
export interface RelayOptions<Tx> extends CommonOptions {
  readonly outbox: OutboxStore<Tx>
  /** Rows read or deleted at a time. Default 500. */
  readonly batchSize?: number
  /** Rows read and not deleted yet, at most: the bound on its memory. Default 5 000. */
  readonly inFlight?: number
  /** How long a bucket stays ours without renewal, in milliseconds. Default 15 000. */
  readonly leaseMs?: number
  /** Longest wait between two looks for rows, in milliseconds; appends in this process end it. Default 250. */
  readonly pollMs?: number
  /** Tries of a message that the broker refuses for good, before it is given up. Default 5. */
  readonly attempts?: number
  /** Wait between these tries. Default: 200 ms, three times longer each time, at most 30 s. */
  readonly backoff?: Backoff
  /**
   * What becomes of one that is given up. 'park-and-continue' (default): it is moved to `holdfast_outbox_dead`
   * and its key goes on. 'block-key': it stays and is tried on, and its key waits.
   */
  readonly onPoison?: 'park-and-continue' | 'block-key'
  /** How long the broker may take for one message before it is sent again, in milliseconds. Default 60 000. */
  readonly sendTimeoutMs?: number
}

/** A relay's options with every default filled in. */
export interface ResolvedRelayOptions<Tx> extends ResolvedCommonOptions {
  readonly outbox: OutboxStore<Tx>
  readonly batchSize: number
  readonly inFlight: number
  readonly leaseMs: number
  readonly pollMs: number
  readonly attempts: number
  readonly backoff: Backoff
  readonly onPoison: 'park-and-continue' | 'block-key'
  readonly sendTimeoutMs: number
}

const relayNames: readonly (keyof RelayOptions<never>)[] = [
  ...commonNames,
  'outbox',
  'batchSize',
  'inFlight',
  'leaseMs',
  'pollMs',
  'attempts',
  'backoff',
  'onPoison',
  'sendTimeoutMs',
]

/** Fills in defaults, once; throws an `OptionError` with the option's name, value and range. */
export function resolveRelayOptions<Tx>(given: RelayOptions<Tx>): ResolvedRelayOptions<Tx> {
  refuseUnknownOptions('OutboxRelay', given, relayNames)
  checkMethod('outbox', given.outbox, 'lease', 'an outbox store')
  if (given.backoff !== undefined) {
    checkMethod('backoff', given.backoff, 'delayFor', 'exponential(…) or constant(ms)')
  }
  const inFlight = integerOption('inFlight', given.inFlight, 5_000, { min: 1 })
  return Object.freeze({
    ...resolveCommonOptions(given),
    outbox: given.outbox,
    inFlight,
    batchSize: integerOption('batchSize', given.batchSize, Math.min(500, inFlight), {
      min: 1,
      max: inFlight,
    }),
    leaseMs: integerOption('leaseMs', given.leaseMs, 15_000, { min: 100 }),
    pollMs: integerOption('pollMs', given.pollMs, 250, { min: 1 }),
    attempts: integerOption('attempts', given.attempts, 5, { min: 1 }),
    backoff:
      given.backoff ?? exponential({ initialMs: 200, maxMs: 30_000, factor: 3, jitter: 'none' }),
    onPoison: choiceOption('onPoison', given.onPoison, 'park-and-continue', [
      'park-and-continue',
      'block-key',
    ]),
    sendTimeoutMs: integerOption('sendTimeoutMs', given.sendTimeoutMs, 60_000, { min: 100 }),
  })
}
