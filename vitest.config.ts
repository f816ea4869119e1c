import { fileURLToPath } from 'node:url'
import {
  configDefaults,
  defineConfig,
  type TestProjectInlineConfiguration,
  type ViteUserConfig,
} from 'vitest/config'

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url))

/**
 * A named slice of the test tree, of folders and single files, run by `vitest --project NAME`. Slices
 * of one group run side by side; those that kill processes or hold the machine busy come later, one
 * file at a time.
 */
function project(
  name: string,
  places: readonly string[],
  {
    testTimeout,
    groupOrder,
    globalSetup = [],
    env = {},
    except = [],
  }: {
    testTimeout: number
    groupOrder: number
    globalSetup?: string[]
    env?: Record<string, string>
    /** Places in these folders that are in another slice. */
    except?: readonly string[]
  },
): TestProjectInlineConfiguration {
  return {
    extends: true,
    test: {
      name,
      include: places.map(filesOf),
      exclude: [...configDefaults.exclude, ...except.map(filesOf)],
      testTimeout,
      hookTimeout: testTimeout,
      globalSetup,
      env,
      maxWorkers: groupOrder < 2 ? 2 : 1,
      sequence: { groupOrder },
    },
  }
}

function filesOf(place: string): string {
  return place.endsWith('.test.ts') ? `test/${place}` : `test/${place}/**/*.test.ts`
}

/** Of the adapters' tests those that need no broker. */
const rabbitmqParts = [
  'adapters/rabbitmq/{balance,channel-ending,channel-events,confirms,consumer-channel}.test.ts',
  'adapters/rabbitmq/{errors,management,members,options,publish-frames,settles}.test.ts',
  'adapters/rabbitmq/{supervisor,topics}.test.ts',
]

/** What `npm test` runs of RabbitMQ: the suite on one node with both types of queues, and short faults. */
const rabbitmqShort = ['adapters/rabbitmq/conformance.test.ts', 'adapters/rabbitmq/faults']

const kafkaParts = [
  'adapters/kafka/{assigner,audit,capabilities,codecs,fetching-protocol,group-link}.test.ts',
  'adapters/kafka/{cluster-node,health,incoming,inspector,kafkajs-client}.test.ts',
  'adapters/kafka/{idempotent-producer,idempotent-producer.property,offset-metadata}.test.ts',
  'adapters/kafka/{offsets,options,partition-source,partitioner,receiving,sending}.test.ts',
  'adapters/kafka/{platformatic-package,sending.property,sequences,topics}.test.ts',
  'adapters/kafka/{fetching,group-joining,membership,topology,transacting}.test.ts',
]

/** The same of Kafka, on one broker. */
const kafkaShort = ['adapters/kafka/{conformance,sending-broker,receiving-broker}.test.ts']

const unitPlaces = [
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
  ...rabbitmqParts,
  ...kafkaParts,
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
      project('unit', unitPlaces, { testTimeout: 60_000, groupOrder: 0 }),
      project('memory', ['adapters/memory'], { testTimeout: 120_000, groupOrder: 0 }),
      project('sqlite', ['adapters/sql', 'adapters/sqlite'], {
        testTimeout: 60_000,
        groupOrder: 1,
      }),
      project('process', ['process'], { testTimeout: 180_000, groupOrder: 2 }),
      project('examples', ['examples'], { testTimeout: 300_000, groupOrder: 3 }),
      project('rabbitmq-short', rabbitmqShort, {
        testTimeout: 180_000,
        groupOrder: 7,
        globalSetup: ['test/brokers/shared-node-setup.ts'],
      }),
      project('kafka-short', kafkaShort, {
        testTimeout: 180_000,
        groupOrder: 8,
        globalSetup: ['test/brokers/shared-kafka-setup.ts'],
      }),
      project('brokers', ['brokers/rig', 'adapters/rabbitmq'], {
        testTimeout: 180_000,
        groupOrder: 5,
        globalSetup: ['test/brokers/shared-node-setup.ts'],
        except: [...rabbitmqParts, ...rabbitmqShort],
      }),
      project('kafka', ['brokers/kafka-rig', 'adapters/kafka'], {
        testTimeout: 180_000,
        groupOrder: 6,
        globalSetup: ['test/brokers/shared-kafka-setup.ts'],
        except: [...kafkaParts, ...kafkaShort],
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
