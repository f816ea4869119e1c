import { describe, expect, it } from 'vitest'
import { type Import, filesUnder, importedPath, importsOf, packageOf } from './source-tree.ts'

/** What each folder of src/ may import besides itself: everything upstream of it, nothing beside. */
const upstream: Readonly<Record<string, readonly string[]>> = {
  contract: [],
  observe: ['contract'],
  policy: ['contract', 'observe'],
  send: ['contract', 'observe', 'policy'],
  publish: ['contract', 'observe', 'policy', 'send'],
  consume: ['contract', 'observe', 'policy', 'send'],
  operate: ['contract', 'observe', 'policy', 'send', 'publish', 'consume'],
  config: ['contract', 'observe', 'policy', 'send', 'publish', 'consume', 'operate'],
  cli: ['contract', 'observe', 'policy', 'send', 'publish', 'consume', 'operate', 'config'],
  console: ['contract', 'observe', 'policy', 'send', 'publish', 'consume', 'operate', 'config'],
}

/** Third-party packages each folder of src/ may import; clients of brokers and databases: none. */
const packagesOfSrc: Readonly<Record<string, readonly string[]>> = {
  policy: ['p-retry', 'opossum'],
}

/** Each adapter's own client. An adapter that is not listed here may import none. */
const clientsOf: Readonly<Record<string, readonly string[]>> = {
  memory: [],
  sql: [],
  sqlite: ['better-sqlite3'],
  rabbitmq: ['amqplib'],
  kafka: ['kafkajs', '@platformatic/kafka', 'kafkajs-snappy', 'lz4js', 'fzstd'],
}

const sharedByAdapters = ['contract', 'policy']
const usersOfSql = ['sqlite', 'postgres', 'mysql']

/** `src/send/seal.ts` → ['src', 'send']; a file right under src/ is a door and has no folder. */
function placeOf(path: string): { readonly tree: string; readonly folder: string | null } {
  const parts = path.split('/')
  return { tree: parts[0] ?? '', folder: parts.length > 2 ? (parts[1] ?? null) : null }
}

function mayImportFile(from: string, to: string): boolean {
  const here = placeOf(from)
  const there = placeOf(to)
  if (here.tree === 'adapters') return adapterMayImport(here.folder, there)
  if (there.tree !== 'src' || there.folder === null) return false
  if (here.folder === null) return there.folder !== 'cli' && there.folder !== 'console'
  return here.folder === there.folder || (upstream[here.folder] ?? []).includes(there.folder)
}

function adapterMayImport(folder: string | null, there: ReturnType<typeof placeOf>): boolean {
  if (folder === null || there.folder === null) return false
  if (there.tree === 'src') return sharedByAdapters.includes(there.folder)
  if (there.tree !== 'adapters') return false
  return there.folder === folder || (there.folder === 'sql' && usersOfSql.includes(folder))
}

function mayImportPackage(from: string, { specifier, dynamic, typeOnly }: Import): boolean {
  if (specifier.startsWith('node:')) return true
  const { tree, folder } = placeOf(from)
  // Brokers are chosen by config: it alone reaches adapters, through the package's own doors, and
  // loads none before it is asked to.
  if (packageOf(specifier) === 'holdfast') {
    return (dynamic || typeOnly) && tree === 'src' && folder === 'config'
  }
  // Types without a line of code, made to be named by whoever takes a schema.
  if (tree === 'src' && specifier === '@standard-schema/spec') return typeOnly
  const allowed = (tree === 'src' ? packagesOfSrc : clientsOf)[folder ?? '']
  return (allowed ?? []).includes(packageOf(specifier))
}

/** Every import of a file that the architecture does not draw. */
function forbiddenImports(path: string, text: string): string[] {
  return importsOf(text)
    .filter((found) => {
      const to = importedPath(path, found.specifier)
      return to === null ? !mayImportPackage(path, found) : !mayImportFile(path, to)
    })
    .map(({ specifier }) => `${path} → ${specifier}`)
}

describe('the import arrows', () => {
  it.each(['src', 'adapters'])('are the drawn ones in %s/', (tree) => {
    expect(filesUnder(tree).flatMap(({ path, text }) => forbiddenImports(path, text))).toEqual([])
  })

  it('have something to check', () => {
    expect(filesUnder('src').flatMap(({ text }) => importsOf(text)).length).toBeGreaterThan(10)
  })
})

describe('the check of the import arrows', () => {
  const forbidden = [
    ['src/publish/relay.ts', `import { lanes } from '../consume/lanes.ts'`],
    ['src/consume/settle.ts', `import type { Relay } from '../publish/relay.ts'`],
    ['src/contract/broker.ts', `import { emitter } from '../observe/emitter.ts'`],
    ['src/policy/retry.ts', `export { seal } from '../send/seal.ts'`],
    ['src/send/seal.ts', `const sqlite = await import('../../adapters/sqlite/index.ts')`],
    ['src/send/seal.ts', `import type { Channel } from 'amqplib'`],
    ['src/send/seal.ts', `import retry from 'p-retry'`],
    ['src/send/seal.ts', `type Pool = import('pg').Pool`],
    ['src/send/seal.ts', `const pg = require('pg')`],
    ['src/send/seal.ts', `import { topic } from '../index.ts'`],
    ['src/send/seal.ts', `await import('holdfast/sqlite')`],
    ['src/contract/topic.ts', `import { StandardSchemaV1 } from '@standard-schema/spec'`],
    ['src/config/connect.ts', `import { sqlite } from 'holdfast/sqlite'`],
    ['src/index.ts', `export { memory } from '../adapters/memory/index.ts'`],
    ['src/index.ts', `export { main } from './cli/main.ts'`],
    ['adapters/memory/broker.ts', `import { seal } from '../../src/send/seal.ts'`],
    ['adapters/memory/broker.ts', `import { statements } from '../sql/statements.ts'`],
    ['adapters/sqlite/broker.ts', `import { memory } from '../memory/index.ts'`],
    ['adapters/sqlite/broker.ts', `import { topic } from '../../src/index.ts'`],
    ['adapters/memory/broker.ts', `import sqlite from 'better-sqlite3'`],
    ['adapters/unheard/broker.ts', `import client from 'unheard-client'`],
    ['src/unheard/room.ts', `import { topic } from '../contract/topic.ts'`],
    ['src/send/seal.ts', `import { run } from '../../test/conformance/index.ts'`],
  ] as const

  it.each(forbidden)('finds in %s: %s', (path, text) => {
    expect(forbiddenImports(path, text)).toHaveLength(1)
  })

  const drawn = [
    ['src/publish/relay.ts', `import { seal } from '../send/seal.ts'`],
    ['src/config/connect.ts', `await import('holdfast/sqlite')`],
    ['src/config/define.ts', `import type { SqliteOptions } from 'holdfast/sqlite'`],
    ['src/policy/retry.ts', `import retry from 'p-retry'`],
    ['src/contract/topic.ts', `import type { StandardSchemaV1 } from '@standard-schema/spec'`],
    ['src/consume/open.ts', `import type { StandardSchemaV1 } from '@standard-schema/spec'`],
    ['src/index.ts', `export { topic } from './contract/topic.ts'`],
    ['adapters/sqlite/outbox.ts', `import { lease } from '../sql/lease.ts'`],
    ['adapters/sqlite/driver.ts', `await import('better-sqlite3')`],
    ['adapters/memory/broker.ts', `import type { Broker } from '../../src/contract/broker.ts'`],
    ['src/send/seal.ts', `// import { lanes } from '../consume/lanes.ts'`],
  ] as const

  it.each(drawn)('allows in %s: %s', (path, text) => {
    expect(forbiddenImports(path, text)).toEqual([])
  })
})
