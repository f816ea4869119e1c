import type { Figure, Target } from './figure.ts'
import {
  type Contender,
  cpuPerMessage,
  type Measured,
  median,
  pairedRatio,
  perSecond,
  type Sample,
} from './measure.ts'

/** What holdfast has to reach, as a factor. */
export interface Targets {
  /** Of the rate of amqplib by hand, at least. */
  readonly rate?: number
  /** Of the CPU per message of amqplib by hand, at most. */
  readonly cpu?: number
  /** Of the rate of the fastest of all others, at least. */
  readonly fastest?: number
}

/** Contenders that do the same: holdfast first, amqplib by hand second. */
export interface Comparison {
  readonly name: string
  readonly contenders: readonly Contender[]
  readonly targets: Targets
}

/** Ratios of holdfast to the others, then what each of them did. */
export function figuresOf(
  { name, targets }: Comparison,
  measured: readonly Measured[],
): readonly Figure[] {
  const [holdfast, raw] = measured
  if (holdfast === undefined || raw === undefined) return []
  const ratio = (what: string, value: number, unit: string, target: Target | null): Figure => ({
    suite: 'rabbitmq',
    name: `${name}: holdfast: ${what}`,
    value,
    unit,
    durability: holdfast.durability,
    ...(target === null ? {} : { target }),
  })
  const { rate, cpu, fastest } = targets
  const toRaw = (figure: (sample: Sample) => number): number => pairedRatio(holdfast, raw, figure)
  return [
    ratio('rate', toRaw(perSecond), `× ${raw.name}`, rate === undefined ? null : { atLeast: rate }),
    ratio('CPU', toRaw(cpuPerMessage), `× ${raw.name}`, cpu === undefined ? null : { atMost: cpu }),
    ...(measured.length === 2
      ? []
      : [
          ratio(
            'rate',
            toFastest(measured),
            '× the fastest other',
            fastest === undefined ? null : { atLeast: fastest },
          ),
        ]),
    ...measured.flatMap((one) => absolutes(name, one)),
  ]
}

/** Against each of the others by itself; the worst of that. */
function toFastest([holdfast, ...others]: readonly Measured[]): number {
  return Math.min(...others.map((other) => pairedRatio(holdfast!, other, perSecond)))
}

function absolutes(comparison: string, { name, durability, samples }: Measured): readonly Figure[] {
  const common = { suite: 'rabbitmq', durability }
  const of = `${comparison}: ${name}`
  return [
    { ...common, name: `${of}: rate`, value: median(samples.map(perSecond)), unit: 'msg/s' },
    { ...common, name: `${of}: CPU`, value: median(samples.map(cpuPerMessage)), unit: 'µs/msg' },
  ]
}
