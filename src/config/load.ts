import { existsSync, readFileSync } from 'node:fs'
import { dirname, extname, join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

import { HoldfastError, OptionError } from '../contract/errors.ts'
import type { HoldfastConfig } from './define.ts'

const fileNames = ['ts', 'mts', 'js', 'mjs', 'json'].map((ending) => `holdfast.config.${ending}`)

/** Where the nearest config file is, from `start` upwards; null when there is none. */
export function findConfig(start: string): string | null {
  for (let folder = resolve(start); ; folder = dirname(folder)) {
    const found = fileNames.map((name) => join(folder, name)).find((path) => existsSync(path))
    if (found !== undefined) return found
    if (dirname(folder) === folder) return null
  }
}

/**
 * Reads the nearest `holdfast.config.{ts,mts,js,mjs,json}`. Throws an `OptionError` when there is
 * none or it exports no config, an error with code `missing-package` when a `.ts` file cannot be run.
 */
export async function loadConfig(start: string = process.cwd()): Promise<HoldfastConfig> {
  const path = findConfig(start)
  if (path === null) {
    const allowed = `a ${fileNames.join(', ')} in ${start} or above, or connect({ broker: … })`
    throw new OptionError('config', 'no file', allowed)
  }
  const config = extname(path) === '.json' ? readJson(path) : await importDefault(path)
  if (typeof config === 'object' && config !== null && 'broker' in config) {
    return config as HoldfastConfig
  }
  throw new OptionError(path, config, 'a default export with at least { broker: { use: … } }')
}

function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as unknown
  } catch (cause) {
    throw new HoldfastError('option', `${path} cannot be read as JSON`, { cause })
  }
}

async function importDefault(path: string): Promise<unknown> {
  const isTypeScript = path.endsWith('ts')
  if (isTypeScript && !canStripTypes()) return importWithJiti(path)
  const module = (await import(pathToFileURL(path).href)) as { default?: unknown }
  return module.default
}

function canStripTypes(): boolean {
  return Boolean((process.features as { typescript?: unknown }).typescript)
}

/** Not written into the import, since the compiler would look for its types. */
const jitiPackage: string = 'jiti'

/** jiti is an optional peer: wanted only for a TypeScript config on a Node that cannot strip types. */
async function importWithJiti(path: string): Promise<unknown> {
  let jiti: { createJiti(from: string): { import(path: string, o: object): Promise<unknown> } }
  try {
    jiti = (await import(jitiPackage)) as typeof jiti
  } catch (cause) {
    throw new HoldfastError(
      'missing-package',
      `${path} is TypeScript, which Node ${process.version} cannot run: npm install jiti, or use a .mjs or .json config, or Node >= 22.18`,
      { cause },
    )
  }
  return jiti.createJiti(import.meta.url).import(path, { default: true })
}
