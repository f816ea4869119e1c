import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { memoryDatabase } from 'holdfast/memory'

import { isSameDatabase } from '../../src/config/same-database.ts'

describe('two stores of a config are in one database', () => {
  let folder: string
  const at = (path: string): { use: string; file: string } => ({
    use: 'sqlite',
    file: path.startsWith('.') ? path : join(folder, path),
  })

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'holdfast-same-'))
    mkdirSync(join(folder, 'data'))
    writeFileSync(join(folder, 'data', 'old.db'), '')
    symlinkSync(join(folder, 'data', 'old.db'), join(folder, 'link.db'))
    symlinkSync(join(folder, 'data'), join(folder, 'same-data'))
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it.each([
    ['the same text', 'shop.db', 'shop.db'],
    ['a detour', 'shop.db', 'data/../shop.db'],
    ['a link to the file', 'data/old.db', 'link.db'],
    ['a link to the folder of a file that is not there yet', 'data/new.db', 'same-data/new.db'],
    ['a folder that is not there', 'none/a.db', 'none/./a.db'],
  ])('however the file is spelt: %s', (_name, one, other) => {
    expect(isSameDatabase(at(one), at(other))).toBe(true)
  })

  it('however it is spelt from here', () => {
    const { file } = at('data/old.db')
    const here = relative(process.cwd(), file)
    expect(isSameDatabase({ use: 'sqlite', file }, { use: 'sqlite', file: here })).toBe(true)
    expect(isSameDatabase(at('./shop.db'), { use: 'sqlite', file: 'shop.db' })).toBe(true)
  })

  it('and are not when anything else differs', () => {
    expect(isSameDatabase(at('data/old.db'), at('data/new.db'))).toBe(false)
    const [database, other] = [memoryDatabase(), memoryDatabase()]
    const memory = (of: unknown): { use: string; database: unknown } => ({
      use: 'memory',
      database: of,
    })
    expect(isSameDatabase(memory(database), memory(database))).toBe(true)
    expect(isSameDatabase(memory(database), memory(other))).toBe(false)
    expect(isSameDatabase({ use: 'memory' }, { use: 'memory' })).toBe(false)
    expect(isSameDatabase(memory(database), { use: 'sqlite', database })).toBe(false)
  })
})
