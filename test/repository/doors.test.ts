import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { filesUnder, importedPath, importsOf, packageOf, root } from './source-tree.ts'

interface Manifest {
  readonly files: readonly string[]
  readonly exports: Readonly<
    Record<string, string | { readonly types: string; readonly default: string }>
  >
  readonly dependencies: Readonly<Record<string, string>>
  readonly peerDependencies: Readonly<Record<string, string>>
  readonly peerDependenciesMeta: Readonly<Record<string, { readonly optional?: boolean }>>
}

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Manifest

/** Reads a source by its path from the root. */
type Read = (path: string) => string

const readSource: Read = (path) => readFileSync(join(root, path), 'utf8')

/** Source of a door's file: `./dist/src/index.js` → `src/index.ts`. */
function sourceOf(built: string): string {
  return built.replace(/^\.\/dist\//, '').replace(/(\.d\.ts|\.js)$/, '.ts')
}

/** Source of every door, by its name; `./package.json` is none. */
function doorsOf(exports: Manifest['exports']): Map<string, string> {
  const doors = Object.entries(exports).flatMap(([door, target]) =>
    typeof target === 'string' ? [] : [[door, sourceOf(target.default)] as const],
  )
  return new Map(doors)
}

/** What opening a door loads, before anything is called: files by path, packages by name. */
function loadedBy(entry: string, read: Read): Set<string> {
  const loaded = new Set<string>()
  const open = [entry]
  for (let path = open.pop(); path !== undefined; path = open.pop()) {
    if (loaded.has(path)) continue
    loaded.add(path)
    for (const { specifier, dynamic, typeOnly } of importsOf(read(path))) {
      if (dynamic || typeOnly) continue
      const file = importedPath(path, specifier)
      if (file !== null) open.push(file)
      else loaded.add(packageOf(specifier))
    }
  }
  return loaded
}

function packagesAmong(loaded: ReadonlySet<string>): string[] {
  return [...loaded].filter((name) => !name.endsWith('.ts') && !name.startsWith('node:')).toSorted()
}

const doors = doorsOf(manifest.exports)
const published = ['src', 'adapters', 'test/conformance']
  .flatMap((folder) => filesUnder(folder))
  .filter(({ path }) => !path.endsWith('.test.ts'))

describe('the doors', () => {
  it.each([...doors])('%s is built from %s, with its types', (door, source) => {
    const target = manifest.exports[door]
    expect(existsSync(join(root, source))).toBe(true)
    expect(typeof target === 'object' && sourceOf(target.types)).toBe(source)
  })

  it.each([...doors])('%s leads into a published folder', (_door, source) => {
    const folders = manifest.files.filter((entry) => entry.startsWith('dist/'))
    expect(folders.some((folder) => `dist/${source}`.startsWith(`${folder}/`))).toBe(true)
  })

  it('include every adapter that has an index', () => {
    const adapters = published
      .map(({ path }) => path)
      .filter((path) => /^adapters\/[^/]+\/index\.ts$/.test(path))
    expect([...doors.values()]).toEqual(expect.arrayContaining(adapters))
  })

  it('load no broker or database client through the core', () => {
    const loaded = loadedBy('src/index.ts', readSource)
    expect([...loaded].filter((name) => name.startsWith('adapters/'))).toEqual([])
    expect(Object.keys(manifest.dependencies)).toEqual(
      expect.arrayContaining(packagesAmong(loaded)),
    )
  })

  it('load no optional peer before it is used', () => {
    const loaded = [...doors.values()].flatMap((door) => packagesAmong(loadedBy(door, readSource)))
    const optional = Object.keys(manifest.peerDependencies)
    expect(loaded.filter((name) => optional.includes(name))).toEqual([])
  })
})

describe('the declared packages', () => {
  const imported = new Set(
    published
      .flatMap(({ text }) => importsOf(text))
      .filter(({ specifier }) => !specifier.startsWith('.') && !specifier.startsWith('node:'))
      .map(({ specifier }) => packageOf(specifier)),
  )

  it('are those the published sources import', () => {
    const declared = { ...manifest.dependencies, ...manifest.peerDependencies, holdfast: '*' }
    expect(Object.keys(declared)).toEqual(expect.arrayContaining([...imported]))
  })

  it('are optional where they are peers', () => {
    const required = Object.keys(manifest.peerDependencies).filter(
      (name) => manifest.peerDependenciesMeta[name]?.optional !== true,
    )
    expect(required).toEqual([])
  })
})

describe('the check of the doors', () => {
  const tree: Readonly<Record<string, string>> = {
    'src/index.ts': `export { a } from './a.ts'\nexport type { B } from '../adapters/b/index.ts'`,
    'src/a.ts': `import pg from 'pg/lib'\nimport 'node:fs'\nconst k = () => import('kafkajs')`,
  }

  it('follows imports to the packages behind them', () => {
    const loaded = loadedBy('src/index.ts', (path) => tree[path] ?? '')
    expect(packagesAmong(loaded)).toEqual(['pg'])
    expect([...loaded]).toEqual(['src/index.ts', 'src/a.ts', 'pg', 'node:fs'])
  })

  it('sees where a door leads', () => {
    const target = { types: './dist/x/index.d.ts', default: './dist/x/index.js' }
    expect([...doorsOf({ './x': target, './package.json': './package.json' })]).toEqual([
      ['./x', 'x/index.ts'],
    ])
  })
})
