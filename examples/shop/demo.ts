/**
 * The main job, end to end: orders are taken, published, delivered and charged once, although the
 * processes that do it are killed and the broker is taken away. `--help` lists the options.
 */
import { isHoldfastError } from 'holdfast'

import { findBroker, type BrokerPlace } from './broker-place.ts'
import { usualFailures, withSomeFailures } from './charge-failures.ts'
import { Crew, PROCESSES } from './crew.ts'
import { lookAt, seekableInput, type Input } from './input.ts'
import { OneProcess } from './one-process.ts'
import { isEmbedded, parseOptions, type DemoOptions } from './options.ts'
import { readRun } from './reader.ts'
import { grouped, reportText } from './report.ts'
import { RunFolder } from './run-folder.ts'
import type { RunPlan } from './run-plan.ts'
import { samplePath } from './sample.ts'
import { files, writeSettings, type Settings } from './settings.ts'
import { tryBroker } from './shop.ts'
import { createTables } from './tables.ts'
import { EXIT, HELP, UsageError } from './usage.ts'
import { exitCodeOf, judge, NO_FAULTS, type Wanted } from './verdict.ts'
import { watch } from './watch.ts'

/** The input takes about this long when nothing else is said, so that every fault finds work to hit. */
const SPREAD_OVER_SECONDS = 25
const MOST_PER_SECOND = 400
/** Every process has to be killed at least this often, and the broker taken away once. */
const KILLS_WANTED = 3

async function main(options: DemoOptions): Promise<number> {
  const folder = new RunFolder(options.dir, options.keep)
  process.once('exit', () => folder.remove())
  const place = await findBroker(options)
  const abandon = (): void => place.abandon()
  process.once('exit', abandon)
  try {
    return await runOn(place, options, folder)
  } finally {
    await place.release()
    process.off('exit', abandon)
  }
}

async function runOn(place: BrokerPlace, options: DemoOptions, folder: RunFolder): Promise<number> {
  const plan = await prepare(options, place, folder.path)
  const started = performance.now()
  const { broker } = plan.settings
  const trouble = await (broker === 'memory' ? runInOneProcess(plan) : runWithFaults(plan))
  const seconds = (performance.now() - started) / 1_000

  const findings = await readRun(plan.settings)
  const verdict = judge(findings, broker === 'memory' ? NO_FAULTS : wanted(options))
  console.log(reportText(findings, verdict, seconds))
  if (trouble !== null) console.log(`\nThe run was ended early: ${trouble}`)
  const exitCode = exitCodeOf(verdict)
  if (exitCode === EXIT.broken) folder.keep()
  return exitCode
}

function wanted({ kills, broker }: DemoOptions): Wanted {
  const processes = PROCESSES.map(({ name }) => name)
  const restarts = isEmbedded(broker) ? 0 : 1
  return { processes, kills: Math.max(kills, KILLS_WANTED), outages: 1, restarts }
}

async function runWithFaults(plan: RunPlan): Promise<string | null> {
  const crew = new Crew(plan)
  const abandon = (): void => crew.abandon()
  // Before the folder is removed.
  process.prependOnceListener('exit', abandon)
  crew.start()
  try {
    const trouble = await watch(plan, crew)
    const late = await crew.stop()
    if (late.length === 0) return trouble
    return `${trouble ?? 'all was done'}; did not end when asked to: ${late.join(', ')}`
  } finally {
    abandon()
    process.off('exit', abandon)
  }
}

async function runInOneProcess(plan: RunPlan): Promise<string | null> {
  console.log('the memory broker lives in one process: nothing is killed or taken away')
  const shop = new OneProcess(plan.settings)
  try {
    return await watch(plan, shop)
  } finally {
    await shop.stop()
  }
}

async function prepare(options: DemoOptions, place: BrokerPlace, dir: string): Promise<RunPlan> {
  const input = await readableInput(options, dir)
  const settings = settingsOf(options, place, dir, input)
  const expectedMs = (input.orders / (settings.ratePerSecond ?? 200)) * 1_000
  announce(options, input, dir, expectedMs)
  await createTables(files.shop(dir))
  writeSettings(settings)
  await tryBroker(settings)
  const { seed, kills, outageMs, restarts } = options
  const { container } = place
  const timeoutMs = options.timeoutMs ?? Math.round(600_000 + 3 * expectedMs)
  const faults = { seed, kills, outageMs, restarts, container }
  return { settings, orders: input.orders, ...faults, timeoutMs }
}

function announce(options: DemoOptions, input: Input, dir: string, expectedMs: number): void {
  const { id, key, amount } = input.fields
  console.log(`orders: ${input.path}, with id "${id}", key "${key}", amount "${amount}"`)
  console.log(`broker: ${options.broker}; databases, histories and logs: ${dir}`)
  if (options.rate === 'auto' && expectedMs > 120_000) {
    const time = `about ${Math.ceil(expectedMs / 60_000)} minutes`
    console.log(`${grouped(input.orders)} orders take ${time}; --fast takes them without pauses`)
  }
}

async function readableInput(options: DemoOptions, dir: string): Promise<Input> {
  if (options.input === '-' && process.stdin.isTTY) console.log('reading standard input to its end')
  const patience = AbortSignal.timeout(options.timeoutMs ?? 600_000)
  const path = await seekableInput(options.input ?? samplePath(), files.input(dir), patience)
  return lookAt(path, options.fields)
}

function settingsOf(
  options: DemoOptions,
  { url, prefix }: BrokerPlace,
  dir: string,
  input: Input,
): Settings {
  const { path, bytes, fields } = input
  const { broker, rate } = options
  const auto = Math.min(MOST_PER_SECOND, Math.max(input.orders, 1) / SPREAD_OVER_SECONDS)
  return {
    dir,
    broker,
    url,
    prefix,
    input: { path, bytes, fields },
    ratePerSecond: rate === 'unlimited' ? null : rate === 'auto' ? auto : rate,
    failures: withSomeFailures(usualFailures(options.seed), input.sampledIds),
  }
}

const signals = [
  ['SIGHUP', 1],
  ['SIGINT', 2],
  ['SIGTERM', 15],
] as const

/** What to say about an error, and the exit code for it. */
function failure(error: unknown): readonly [text: string, exitCode: number] {
  if (error instanceof UsageError) return [error.message, EXIT.usage]
  if (!isHoldfastError(error)) return [(error as Error).stack ?? String(error), EXIT.notShown]
  const configured = ['option', 'capability', 'missing-package', 'topology'].includes(error.code)
  const text = `${error.name} (${error.code}): ${error.message}`
  return [text, configured ? EXIT.usage : EXIT.notShown]
}

for (const [signal, number] of signals) {
  process.once(signal, () => {
    console.error(`\ndemo: ended by ${signal}`)
    // Leaving runs the exit listeners, which end every process and remove the folder.
    process.exit(128 + number)
  })
}
try {
  const options = parseOptions(process.argv.slice(2))
  if (options === 'help') console.log(HELP)
  else process.exitCode = await main(options)
} catch (error) {
  const [text, exitCode] = failure(error)
  console.error(`demo: ${text}`)
  process.exitCode = exitCode
}
