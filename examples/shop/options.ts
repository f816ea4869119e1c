import { parseArgs, type ParseArgsConfig } from 'node:util'

import { isStarted } from './own-broker.ts'
import { UsageError } from './usage.ts'

/** Brokers the demo can be run on. */
export const brokerNames = ['sqlite', 'rabbitmq', 'kafka', 'rocketmq', 'memory'] as const
export type BrokerName = (typeof brokerNames)[number]

/** Field names as given; null: to be detected. */
export interface GivenFields {
  readonly id: string | null
  readonly key: string | null
  readonly amount: string | null
}

/** The command line, checked. */
export interface DemoOptions {
  /** A file, '-' for standard input, null for the sample. */
  readonly input: string | null
  readonly fields: GivenFields
  readonly broker: BrokerName
  readonly url: string | null
  readonly container: string | null
  /** SIGKILLs per process. */
  readonly kills: number
  readonly outageMs: number
  /** Restarts of a broker that runs in a container. */
  readonly restarts: number
  readonly seed: number
  /** Orders per second; 'auto': from the size of the input; 'unlimited'. */
  readonly rate: number | 'auto' | 'unlimited'
  readonly timeoutMs: number | null
  readonly dir: string | null
  readonly keep: boolean
}

const known = {
  input: { type: 'string' },
  id: { type: 'string' },
  key: { type: 'string' },
  amount: { type: 'string' },
  broker: { type: 'string' },
  url: { type: 'string' },
  container: { type: 'string' },
  kills: { type: 'string' },
  outage: { type: 'string' },
  restarts: { type: 'string' },
  seed: { type: 'string' },
  rate: { type: 'string' },
  fast: { type: 'boolean' },
  timeout: { type: 'string' },
  dir: { type: 'string' },
  keep: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const satisfies ParseArgsConfig['options']

type Given = { readonly [K in keyof typeof known]?: string | boolean | undefined }

/** Reads the command line; throws a `UsageError` that names the option. */
export function parseOptions(args: readonly string[]): DemoOptions | 'help' {
  const given = parsed(args)
  if (given.help === true) return 'help'
  const broker = chosenBroker(given)
  return {
    input: text(given, 'input'),
    fields: { id: text(given, 'id'), key: text(given, 'key'), amount: text(given, 'amount') },
    broker,
    url: checkedUrl(broker, text(given, 'url')),
    container: checkedContainer(broker, given),
    kills: number(given, 'kills', { min: 0, max: 1_000, whole: true }) ?? 3,
    outageMs: (number(given, 'outage', { min: 0, max: 60 }) ?? 2) * 1_000,
    restarts: chosenRestarts(broker, given),
    seed: number(given, 'seed', { min: 0, max: 2 ** 32 - 1, whole: true }) ?? 11,
    rate: chosenRate(given),
    timeoutMs: milliseconds(number(given, 'timeout', { min: 1, max: 86_400 })),
    dir: text(given, 'dir'),
    keep: given.keep === true,
  }
}

function parsed(args: readonly string[]): Given {
  try {
    return parseArgs({ args: [...args], options: known, strict: true, allowPositionals: false })
      .values
  } catch (error) {
    // Node's text names the option; its advice about positionals after "--" does not help here.
    const [first = ''] = (error as Error).message.split('. ')
    throw new UsageError(`${first}; --help lists the options`)
  }
}

function text(given: Given, name: keyof Given): string | null {
  const value = given[name]
  if (value === '') throw new UsageError(`--${name} is empty`)
  return typeof value === 'string' ? value : null
}

interface Range {
  readonly min: number
  readonly max: number
  readonly whole?: boolean
}

function number(given: Given, name: keyof Given, { min, max, whole }: Range): number | null {
  const value = text(given, name)
  if (value === null) return null
  const read = /^\d+(\.\d+)?$/.test(value) ? Number(value) : Number.NaN
  if (read >= min && read <= max && (whole !== true || Number.isInteger(read))) return read
  const kind = whole === true ? 'a whole number' : 'a number'
  throw new UsageError(`--${name}: got "${value}"; allowed: ${kind} from ${min} to ${max}`)
}

function milliseconds(seconds: number | null): number | null {
  return seconds === null ? null : seconds * 1_000
}

function chosenBroker(given: Given): BrokerName {
  const name = text(given, 'broker') ?? 'sqlite'
  const found = brokerNames.find((one) => one === name)
  if (found !== undefined) return found
  throw new UsageError(`--broker: got "${name}"; allowed: ${brokerNames.join(', ')}`)
}

/** True for brokers that are a file or the memory of a process. */
export function isEmbedded(broker: BrokerName): boolean {
  return broker === 'sqlite' || broker === 'memory'
}

function checkedUrl(broker: BrokerName, url: string | null): string | null {
  if (isEmbedded(broker) && url !== null) {
    throw new UsageError(`--url: the ${broker} broker has none; --dir chooses where its file is`)
  }
  if (!isEmbedded(broker) && !isStarted(broker) && url === null) {
    throw new UsageError(`--broker ${broker} needs --url, for example rocketmq://localhost:8081`)
  }
  return url
}

function checkedContainer(broker: BrokerName, given: Given): string | null {
  const container = text(given, 'container')
  if (container === null) return null
  if (isEmbedded(broker)) {
    throw new UsageError(`--container: the ${broker} broker runs in no container`)
  }
  if (text(given, 'url') !== null) return container
  throw new UsageError('--container needs --url: where the broker in that container is')
}

/** Restarting a file means nothing. */
function chosenRestarts(broker: BrokerName, given: Given): number {
  const restarts = number(given, 'restarts', { min: 0, max: 1, whole: true })
  if (!isEmbedded(broker)) return restarts ?? 1
  if (restarts === null || restarts === 0) return 0
  throw new UsageError(`--restarts: the ${broker} broker is no process of its own`)
}

function chosenRate(given: Given): number | 'auto' | 'unlimited' {
  const rate = number(given, 'rate', { min: 0.1, max: 1_000_000 })
  if (given.fast !== true) return rate ?? 'auto'
  if (rate !== null) throw new UsageError('--rate and --fast contradict each other: give one')
  return 'unlimited'
}
