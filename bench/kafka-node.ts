import { imageOf } from '../test/brokers/image.ts'
import { startKafka } from '../test/brokers/kafka.ts'

/** A Kafka to measure on. */
export interface BenchKafka {
  /** `host:port` of each. */
  readonly brokers: readonly string[]
  /** What it is, for the table. */
  readonly name: string
  /** Ends what was started for the bench; leaves brokers that were there before. */
  remove(): Promise<void>
}

/** What is too old or too much is looked for that often, so that long runs do not fill the disk. */
const TIDY = ['log.retention.check.interval.ms=5000', 'log.initial.task.delay.ms=5000']
const IMAGE = 'HOLDFAST_KAFKA_IMAGE'

/** Rejects with what to do where there is no broker to be had. */
export async function checkKafka(): Promise<void> {
  if (givenBrokers() === null) await imageOf(IMAGE)
}

/** The brokers named by `HOLDFAST_KAFKA_BROKERS`, else one in a container of its own. */
export async function benchKafka(): Promise<BenchKafka> {
  const given = givenBrokers()
  if (given !== null) {
    return { brokers: given, name: 'given brokers', remove: async () => undefined }
  }
  const own = await startKafka({ isForSpeed: true, conf: TIDY })
  const image = await imageOf(IMAGE)
  return { brokers: [own.node.broker], name: `one broker, ${image}`, remove: () => own.remove() }
}

function givenBrokers(): readonly string[] | null {
  const given = process.env['HOLDFAST_KAFKA_BROKERS']
  return given === undefined || given === '' ? null : given.split(',')
}
