import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { env } from '../../src/config/define.ts'
import { findConfig, loadConfig } from '../../src/config/load.ts'

let folder: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-config-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const write = (name: string, text: string): void => writeFileSync(join(folder, name), text)

describe('loadConfig', () => {
  it('finds the nearest file, upwards', async () => {
    write('holdfast.config.json', '{ "broker": { "use": "memory" } }')
    const deep = join(folder, 'a', 'b')
    mkdirSync(deep, { recursive: true })
    expect(findConfig(deep)).toBe(join(folder, 'holdfast.config.json'))
    expect(await loadConfig(deep)).toEqual({ broker: { use: 'memory' } })
  })

  it('takes the default export of a module', async () => {
    write('holdfast.config.mjs', "export default { broker: { use: 'sqlite', file: 'x.db' } }")
    expect(await loadConfig(folder)).toEqual({ broker: { use: 'sqlite', file: 'x.db' } })
  })

  it('says where it looked when there is none', async () => {
    await expect(loadConfig(folder)).rejects.toThrow(/holdfast\.config\.ts.* in .*or above/)
  })

  it('names the file that is no JSON', async () => {
    write('holdfast.config.json', '{ broker: }')
    await expect(loadConfig(folder)).rejects.toThrow(/holdfast\.config\.json cannot be read/)
  })

  it('names the file that exports no config', async () => {
    write('holdfast.config.mjs', 'export const broker = 1')
    await expect(loadConfig(folder)).rejects.toThrow(/a default export with at least/)
  })
})

describe('env', () => {
  it('reads a variable, or falls back, or names what is missing', () => {
    process.env['HOLDFAST_TEST_URL'] = 'amqp://here'
    expect(env('HOLDFAST_TEST_URL')).toBe('amqp://here')
    delete process.env['HOLDFAST_TEST_URL']
    expect(env('HOLDFAST_TEST_URL', 'amqp://there')).toBe('amqp://there')
    expect(() => env('HOLDFAST_TEST_URL')).toThrow(/env\(HOLDFAST_TEST_URL\).*has to be set/)
  })
})
