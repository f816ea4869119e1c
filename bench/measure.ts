/** One counted run: how many messages, what they cost. */
export interface Sample {
  readonly messages: number
  /** User and system time of the whole process, so garbage collection and compiling count too. */
  readonly cpuMicros: number
  readonly wallMs: number
}

/** Work that is ready to be timed; what made it ready is not counted, nor is closing it. */
export interface Prepared {
  readonly run: () => Promise<void>
  /** How many it moved in the end, where that is not known before. */
  readonly moved?: () => number
  readonly close: () => Promise<void>
}

/** Something that moves messages and is compared with others that do. */
export interface Contender {
  readonly name: string
  /** What survives what, in words: a figure without it says nothing. */
  readonly durability: string
  /** Messages per counted run. */
  readonly messages: number
  readonly prepare: (messages: number) => Promise<Prepared>
}

/** What a contender did in all counted rounds. */
export interface Measured {
  readonly name: string
  readonly durability: string
  readonly samples: readonly Sample[]
}

/** How often the contenders are run, and who is told. */
export interface Rounds {
  /** Counted rounds; at least 5. */
  readonly rounds: number
  /** Rounds before them that are not counted. */
  readonly warmUps: number
  readonly progress: (text: string) => void
}

/**
 * Runs A B C, C B A, A B C, … so that what disturbs the machine disturbs all of them, and none always
 * follows the same other; only the rounds after the warm-up count. A contender that throws ends the
 * measurement.
 */
export async function interleaved(
  contenders: readonly Contender[],
  { rounds, warmUps, progress }: Rounds,
): Promise<readonly Measured[]> {
  const samples = contenders.map((): Sample[] => [])
  for (let round = -warmUps; round < rounds; round++) {
    progress(
      round < 0 ? `warm-up ${round + warmUps + 1}/${warmUps}` : `round ${round + 1}/${rounds}`,
    )
    const inOrder = [...contenders.entries()]
    for (const [index, contender] of round % 2 === 0 ? inOrder : inOrder.toReversed()) {
      const sample = await timed(contender)
      if (round >= 0) samples[index]?.push(sample)
    }
  }
  return contenders.map(({ name, durability }, index) => ({
    name,
    durability,
    samples: samples[index] ?? [],
  }))
}

async function timed({ messages, prepare }: Contender): Promise<Sample> {
  const prepared = await prepare(messages)
  try {
    // No collection is forced here: one that finds no message alive throws out what the compiler
    // learnt about messages, and the run would begin by compiling everything again.
    const cpu = process.cpuUsage()
    const start = performance.now()
    await prepared.run()
    const wallMs = performance.now() - start
    const { user, system } = process.cpuUsage(cpu)
    return { messages: prepared.moved?.() ?? messages, cpuMicros: user + system, wallMs }
  } finally {
    await prepared.close()
  }
}

/** Microseconds of CPU per message of one run. */
export function cpuPerMessage({ messages, cpuMicros }: Sample): number {
  return cpuMicros / messages
}

/** Messages per second of one run, by the wall clock. */
export function perSecond({ messages, wallMs }: Sample): number {
  return (messages * 1_000) / wallMs
}

/** The middle value; the mean of the middle two when their number is even. NaN for none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  const upper = sorted[Math.floor(middle)] ?? Number.NaN
  return Number.isInteger(middle) ? (upper + (sorted[middle - 1] ?? Number.NaN)) / 2 : upper
}

/** Median of the ratios of runs that were neighbours in time, not the ratio of the medians. */
export function pairedRatio(
  of: Measured,
  to: Measured,
  figure: (sample: Sample) => number,
): number {
  return median(
    of.samples.flatMap((sample, round) => {
      const other = to.samples[round]
      return other === undefined ? [] : [figure(sample) / figure(other)]
    }),
  )
}
