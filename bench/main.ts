import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { openDatabase } from 'holdfast/sqlite'

import { type Figure, figureTable, reached } from './figure.ts'
import { describeMachine, type Machine } from './machine.ts'
import { scratchDirectory } from './scratch.ts'
import { parseSettings, type Settings } from './settings.ts'
import type { Suite } from './suite.ts'

const progress = (text: string): void => console.error(`${new Date().toISOString()} ${text}`)

/**
 * Runs what the command line asks for and prints machine, figures and what was missed; progress goes
 * to stderr. The exit code is 1 only for a bench that could not run: a missed target is a finding.
 */
export async function benchMain(suites: readonly Suite[]): Promise<void> {
  try {
    const names = suites.map(({ name }) => name)
    await runSuites(suites, parseSettings(process.argv.slice(2), names))
  } catch (error) {
    console.error(error instanceof Error ? (error.stack ?? error.message) : error)
    process.exitCode = 1
  }
}

async function runSuites(suites: readonly Suite[], settings: Settings): Promise<void> {
  const scratch = scratchDirectory(settings.directory)
  try {
    const machine = describeMachine(scratch.path, await sqliteVersion(scratch.path))
    const figures: Figure[] = []
    const chosen = suites.filter(({ name }) => settings.suites.includes(name))
    for (const suite of chosen) await suite.check?.()
    for (const suite of chosen) {
      const told = (text: string): void => progress(`${suite.name}: ${text}`)
      const messages = settings.messages ?? suite.messages ?? 0
      const context = { ...settings, messages, directory: scratch.path, progress: told }
      figures.push(...(await suite.run(context)))
    }
    publishResults({ machine, settings, figures })
  } finally {
    scratch.remove()
  }
}

async function sqliteVersion(directory: string): Promise<string> {
  const database = await openDatabase({ file: join(directory, 'version.db') })
  try {
    return await database.transaction((tx) => {
      const row = tx.get('SELECT sqlite_version() AS version') as { readonly version: string }
      return row.version
    })
  } finally {
    await database.close()
  }
}

interface Results {
  readonly machine: Machine
  readonly settings: Settings
  readonly figures: readonly Figure[]
}

function publishResults({ machine, settings, figures }: Results): void {
  for (const [name, value] of Object.entries(machine)) console.log(`${name}: ${value}`)
  console.log(`rounds: ${settings.rounds} counted after ${settings.warmUps}\n`)
  console.log(figureTable(figures))
  const missed = figures.filter((figure) => reached(figure) === false)
  console.log(
    `\n${missed.length === 0 ? 'every target reached' : `${missed.length} targets missed`}`,
  )
  if (settings.jsonFile !== undefined) {
    writeFileSync(settings.jsonFile, `${JSON.stringify({ machine, settings, figures }, null, 2)}\n`)
  }
}
