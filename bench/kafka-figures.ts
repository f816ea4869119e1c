import type { Figure } from './figure.ts'
import {
  type Contender,
  cpuPerMessage,
  type Measured,
  median,
  pairedRatio,
  perSecond,
} from './measure.ts'

/** Contenders that do the same, holdfast first. */
export interface Comparison {
  readonly name: string
  readonly holdfast: Contender
  /** The others, and what holdfast's rate has to be of theirs at least. */
  readonly others: readonly { readonly contender: Contender; readonly rate: number | null }[]
}

/** Ratios of holdfast to each of the others, then what each of them did. */
export function figuresOf(
  { name, others }: Comparison,
  [holdfast, ...measured]: readonly Measured[],
): readonly Figure[] {
  if (holdfast === undefined) return []
  const ratios = measured.flatMap((other, index): Figure[] => {
    const rate = others[index]?.rate ?? null
    const common = { suite: 'kafka', unit: `× ${other.name}`, durability: holdfast.durability }
    return [
      {
        ...common,
        name: `${name}: holdfast: rate`,
        value: pairedRatio(holdfast, other, perSecond),
        ...(rate === null ? {} : { target: { atLeast: rate } }),
      },
      {
        ...common,
        name: `${name}: holdfast: CPU`,
        value: pairedRatio(holdfast, other, cpuPerMessage),
      },
    ]
  })
  return [...ratios, ...[holdfast, ...measured].flatMap((one) => absolutes(name, one))]
}

function absolutes(comparison: string, { name, durability, samples }: Measured): readonly Figure[] {
  const common = { suite: 'kafka', durability }
  const of = `${comparison}: ${name}`
  return [
    { ...common, name: `${of}: rate`, value: median(samples.map(perSecond)), unit: 'msg/s' },
    { ...common, name: `${of}: CPU`, value: median(samples.map(cpuPerMessage)), unit: 'µs/msg' },
  ]
}
