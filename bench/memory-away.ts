import { ReliablePublisher, topic } from 'holdfast'
import { memory } from 'holdfast/memory'

import type { AwayResult, MemoryCase, Progress } from './memory-case.ts'
import { median } from './measure.ts'
import { rssMiB } from './rss.ts'

const MIB = 2 ** 20
const BUFFER_BYTES = 32 * MIB
const BUFFER_MESSAGES = 10_000
const BODY_BYTES = 4_096
/** Messages offered every tick: 6 000 a second, 24 MB a second. */
const PER_TICK = 60
const TICK_MS = 10
const WAIT_MS = 250
const SAMPLE_MS = 250
/** Beside the bodies: envelope, promise and bookkeeping of a message that waits. */
const BESIDE_BODY_BYTES = 2_048
/** What V8 keeps for new objects, however few stay alive: three semispaces of 16 MiB. */
const YOUNG_GENERATION_MIB = 48
/** V8 lets garbage grow to about the size of what lives before it collects the old generation. */
const WITH_GARBAGE = 2

interface Blob {
  readonly text: string
}

const blobs = topic<Blob>('blobs')
const blob: Blob = { text: 'x'.repeat(BODY_BYTES - 11) }

/** Offers far more than the buffer holds while the broker is away, then lets it come back. */
export async function brokerAway(
  { whenFull, awayMs }: MemoryCase & { readonly kind: 'away' },
  progress: Progress,
): Promise<AwayResult> {
  const broker = memory()
  const publisher = new ReliablePublisher({
    broker,
    topics: { blobs: { groups: [] } },
    buffer: { messages: BUFFER_MESSAGES, bytes: BUFFER_BYTES, whenFull, waitMs: WAIT_MS },
    logging: 'silent',
  })
  const load = new Load(publisher)
  await load.offerFor(2_000)
  const baseMiB = rssMiB()
  const before = load.offered
  broker.faults.down()
  const samples = await rssWhile(
    () => load.offerFor(awayMs),
    (rss) =>
      progress(`away: ${load.waiting} wait, ${load.refused} refused, RSS ${rss.toFixed(1)} MiB`),
  )
  const offeredMiB = ((load.offered - before) * BODY_BYTES) / MIB
  broker.faults.up()
  await load.settled()
  await publisher.close({ timeoutMs: 10_000 })
  progress(`back: ${load.confirmed} confirmed, ${load.refused} refused of ${load.offered}`)
  return {
    kind: 'away',
    baseMiB,
    peakMiB: Math.max(...samples),
    growingMiB: stillGrowing(samples),
    boundMiB: boundMiB(whenFull),
    mostWaiting: load.mostWaiting,
    offeredMiB,
    missing: load.waiting,
  }
}

/**
 * What the configured buffer allows: its bodies with their bookkeeping, as much again for those that
 * wait for room where they may, and the garbage V8 leaves beside that.
 */
function boundMiB(whenFull: 'wait' | 'fail'): number {
  const buffered = Math.min(BUFFER_MESSAGES, BUFFER_BYTES / BODY_BYTES)
  const once = buffered * (BODY_BYTES + BESIDE_BODY_BYTES)
  const alive = whenFull === 'wait' ? 2 * once : once
  return (WITH_GARBAGE * alive) / MIB + YOUNG_GENERATION_MIB
}

/** Publishes at a fixed rate and waits for no answer, as a careless caller does. */
class Load {
  readonly #publisher: ReliablePublisher
  offered = 0
  confirmed = 0
  refused = 0
  mostWaiting = 0

  constructor(publisher: ReliablePublisher) {
    this.#publisher = publisher
  }

  get waiting(): number {
    return this.offered - this.confirmed - this.refused
  }

  async offerFor(ms: number): Promise<void> {
    const end = performance.now() + ms
    let due = performance.now()
    while (performance.now() < end) {
      for (let each = 0; each < PER_TICK; each++) this.#offer()
      this.mostWaiting = Math.max(this.mostWaiting, this.waiting)
      due += TICK_MS
      await pause(due - performance.now())
    }
  }

  /** Waits until everything offered has an outcome, at most a minute. */
  async settled(): Promise<void> {
    const end = performance.now() + 60_000
    while (this.waiting > 0 && performance.now() < end) await pause(TICK_MS)
  }

  #offer(): void {
    this.offered++
    this.#publisher.publish(blobs, blob).then(
      () => this.confirmed++,
      () => this.refused++,
    )
  }
}

/** Resident memory while the work goes on, in MiB; nothing is collected on purpose. */
async function rssWhile(
  work: () => Promise<void>,
  told: (rss: number) => void,
): Promise<readonly number[]> {
  const samples: number[] = []
  const timer = setInterval(() => {
    const rss = process.memoryUsage.rss() / MIB
    samples.push(rss)
    if (samples.length % 20 === 0) told(rss)
  }, SAMPLE_MS)
  try {
    await work()
    return samples
  } finally {
    clearInterval(timer)
  }
}

/** How much more the last quarter of the time took than the one before it. */
function stillGrowing(samples: readonly number[]): number {
  const quarter = Math.floor(samples.length / 4)
  return median(samples.slice(-quarter)) - median(samples.slice(-2 * quarter, -quarter))
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.max(ms, 0)))
}
