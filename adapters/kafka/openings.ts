import type { BrokerContext } from '../../src/contract/broker.ts'
import { sleep } from '../../src/contract/clock.ts'
import { exponential } from '../../src/policy/backoff.ts'
import type { CommittedOffset, DriverConsumer, KafkaDriver } from './driver.ts'
import { nameOf } from './part-name.ts'
import type { PartitionSource } from './partition-source.ts'

/** What asking needs. */
export interface OpeningsOptions {
  readonly admin: Pick<KafkaDriver['admin'], 'offsets'>
  readonly context: Pick<BrokerContext, 'clock' | 'random' | 'emit'>
  readonly group: string
  readonly requestTimeoutMs: number
  /** Whose answers count; `null`: nobody's. */
  readonly consumer: () => DriverConsumer | null
}

const backoff = exponential({ initialMs: 50, maxMs: 3_000 })

/** Asks the broker where partitions begin that were assigned, and begins them there. */
export class Openings {
  readonly #options: OpeningsOptions

  constructor(options: OpeningsOptions) {
    this.#options = options
  }

  /** Again until it works, or they are not ours any more. Never rejects. */
  async open(consumer: DriverConsumer, sources: readonly PartitionSource[]): Promise<void> {
    const { context, requestTimeoutMs } = this.#options
    const { clock, random } = context
    for (let failures = 1; ; failures++) {
      const opening = sources.filter((source) => source.state === 'opening')
      if (opening.length === 0 || !this.#counts(consumer)) return
      try {
        const deadline = clock.now() + requestTimeoutMs
        const parts = opening.map(({ part }) => part)
        const committed = await consumer.committed(parts, deadline)
        const starts = await this.#startsOf(committed)
        if (this.#counts(consumer)) begin(consumer, opening, committed, starts)
        return
      } catch {
        await sleep(clock, backoff.delayFor(failures, random))
      }
    }
  }

  #counts(consumer: DriverConsumer): boolean {
    return consumer === this.#options.consumer()
  }

  /** Where partitions begin that have no offset of the group: at the first record that is kept, so that none is skipped. */
  async #startsOf(committed: readonly CommittedOffset[]): Promise<ReadonlyMap<string, bigint>> {
    const { admin } = this.#options
    const starts = new Map<string, bigint>()
    const without = committed.filter(({ offset }) => offset === null)
    for (const topic of new Set(without.map((one) => one.topic))) {
      const [begins, ends] = await Promise.all([
        admin.offsets(topic, 'earliest'),
        admin.offsets(topic, 'latest'),
      ])
      for (const { partition, offset } of begins) {
        const name = nameOf({ topic, partition })
        if (!without.some((one) => nameOf(one) === name)) continue
        starts.set(name, offset)
        const end = ends.find((one) => one.partition === partition)?.offset ?? offset
        if (end > offset) this.#tellUnanchored(name, offset, end)
      }
    }
    return starts
  }

  #tellUnanchored(name: string, first: bigint, end: bigint): void {
    const { context, group } = this.#options
    const message = `group "${group}" has no offset in ${name}, where ${end - first} records are: it is a new partition, or its offsets have expired. It is read from its first record on, so that none is skipped`
    context.emit({ type: 'warning', code: 'kafka.no-offset', message })
  }
}

function begin(
  consumer: DriverConsumer,
  opening: readonly PartitionSource[],
  committed: readonly CommittedOffset[],
  starts: ReadonlyMap<string, bigint>,
): void {
  const byName = new Map(committed.map((one) => [nameOf(one), one]))
  for (const source of opening) {
    if (source.state !== 'opening') continue
    const own = byName.get(source.name)
    const start = own?.offset ?? starts.get(source.name)
    if (start === undefined) continue
    source.begin(start, own?.offset === null ? null : (own?.metadata ?? null))
    consumer.seek(source.part, start)
  }
  // One that vanished from the answer is asked for again.
  if (opening.some((source) => source.state === 'opening')) throw new Error('not all of them')
}
