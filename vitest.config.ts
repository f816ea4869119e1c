import { fileURLToPath } from 'node:url'
import {
  defineConfig,
  type TestProjectInlineConfiguration,
  type ViteUserConfig,
} from 'vitest/config'

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url))

/**
 * A named slice of the test tree, run by `vitest --project NAME`. Slices of one group run side by
 * side; those that kill processes or hold the machine busy come later, one file at a time.
 */
function project(
  name: string,
  folders: readonly string[],
  {
    testTimeout,
    groupOrder,
    globalSetup = [],
    env = {},
  }: {
    testTimeout: number
    groupOrder: number
    globalSetup?: string[]
    env?: Record<string, string>
  },
): TestProjectInlineConfiguration {
  return {
    extends: true,
    test: {
      name,
      include: folders.map((folder) =>
        folder.endsWith('.test.ts') ? `test/${folder}` : `test/${folder}/**/*.test.ts`,
      ),
      testTimeout,
      hookTimeout: testTimeout,
      globalSetup,
      env,
      maxWorkers: groupOrder < 2 ? 2 : 1,
      sequence: { groupOrder },
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
  'brokers/proxy',
]

/** @platformatic/kafka needs a later Node than the rest: `scripts/test-platformatic.mjs` brings one. */
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
const platformaticFolders = [
  'adapters/platformatic',
  // Of the default driver, what real brokers say.
  ...['admin', 'conformance-cluster', 'conformance', 'coordinator', 'group-consumer', 'transactor'],
  ...['receiving-broker', 'security', 'sending-broker', 'sending-cluster'],
].map((name) => (name.includes('/') ? name : `adapters/kafka/${name}.test.ts`))
const hasPlatformatic = major > 22 || (major === 22 && minor >= 22)

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
    coverage: { include: ['src/**', 'adapters/**'], reportsDirectory: 'coverage' },
    projects: [
      project('unit', unitFolders, { testTimeout: 60_000, groupOrder: 0 }),
      project('memory', ['adapters/memory'], { testTimeout: 120_000, groupOrder: 0 }),
      project('sqlite', ['adapters/sql', 'adapters/sqlite'], {
        testTimeout: 60_000,
        groupOrder: 1,
      }),
      project('process', ['process'], { testTimeout: 180_000, groupOrder: 2 }),
      project('examples', ['examples'], { testTimeout: 300_000, groupOrder: 3 }),
      project('brokers', ['brokers/rig', 'adapters/rabbitmq'], {
        testTimeout: 180_000,
        groupOrder: 5,
        globalSetup: ['test/brokers/shared-node-setup.ts'],
      }),
      project('kafka', ['brokers/kafka-rig', 'adapters/kafka'], {
        testTimeout: 180_000,
        groupOrder: 6,
        globalSetup: ['test/brokers/shared-kafka-setup.ts'],
      }),
      ...(hasPlatformatic
        ? [
            project('platformatic', platformaticFolders, {
              testTimeout: 180_000,
              groupOrder: 7,
              globalSetup: ['test/brokers/shared-kafka-setup.ts'],
              env: { HOLDFAST_KAFKA_DRIVER: 'platformatic' },
            }),
          ]
        : []),
      project('faults', ['faults'], { testTimeout: 600_000, groupOrder: 4 }),
    ],
  },
})

export default config
