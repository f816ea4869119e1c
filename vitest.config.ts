import { fileURLToPath } from 'node:url'
import {
  defineConfig,
  type TestProjectInlineConfiguration,
  type ViteUserConfig,
} from 'vitest/config'

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url))

/** A named slice of the test tree, run by `vitest --project NAME`. */
function project(
  name: string,
  folders: readonly string[],
  testTimeout: number,
): TestProjectInlineConfiguration {
  return {
    extends: true,
    test: {
      name,
      include: folders.map((folder) => `test/${folder}/**/*.test.ts`),
      testTimeout,
      hookTimeout: testTimeout,
    },
  }
}

const unitFolders = [
  'repository',
  'contract',
  'observe',
  'policy',
  'send',
  'publish',
  'consume',
  'operate',
  'config',
  'conformance',
]

const config: ViteUserConfig = defineConfig({
  resolve: {
    // Tests import the package by its own name, as users do, and still run the sources.
    alias: [
      { find: /^holdfast$/, replacement: path('./src/index.ts') },
      { find: /^holdfast\/conformance$/, replacement: path('./test/conformance/index.ts') },
      { find: /^holdfast\/testing$/, replacement: path('./src/testing.ts') },
      { find: /^holdfast\/([a-z]+)$/, replacement: path('./adapters/$1/index.ts') },
    ],
  },
  test: {
    allowOnly: false,
    maxWorkers: 2,
    coverage: { include: ['src/**', 'adapters/**'], reportsDirectory: 'coverage' },
    projects: [
      project('unit', unitFolders, 10_000),
      project('memory', ['adapters/memory'], 30_000),
      project('sqlite', ['adapters/sql', 'adapters/sqlite'], 60_000),
      project('process', ['process'], 180_000),
      project('examples', ['examples'], 300_000),
      project('faults', ['faults'], 600_000),
    ],
  },
})

export default config
