import type { Figure } from './figure.ts'
import type { MemoryCase, MemoryResult } from './memory-case.ts'
import { inOwnProcess } from './memory-process.ts'
import type { Suite } from './suite.ts'

const SLOPE_TARGET_MIB = 1
/** What RSS may still change by once a buffer is full. */
const STILL_GROWING_MIB = 8

/** What the process keeps: after many messages, and while the broker is away. */
export const memory: Suite = {
  name: 'memory',
  messages: 1_000_000,
  run: async ({ messages, awayMs, directory, progress }) => {
    const cases: readonly MemoryCase[] = [
      { kind: 'steady', through: 'memory', messages },
      { kind: 'steady', through: 'sqlite', messages, directory },
      { kind: 'away', whenFull: 'fail', awayMs },
      { kind: 'away', whenFull: 'wait', awayMs },
    ]
    const figures: Figure[] = []
    // One after the other: a case's memory is its own process's, but its load needs the cores.
    for (const one of cases) figures.push(...figuresOf(one, await inOwnProcess(one, progress)))
    return figures
  },
}

function figuresOf(one: MemoryCase, result: MemoryResult): readonly Figure[] {
  return one.kind === 'steady' ? steadyFigures(one.through, result) : awayFigures(one, result)
}

function steadyFigures(through: string, result: MemoryResult): readonly Figure[] {
  if (result.kind !== 'steady') return []
  const durability = through === 'memory' ? 'none (memory broker)' : 'WAL, synchronous=FULL'
  const name = `${result.messages.toLocaleString('en-US').replaceAll(',', ' ')} through ${through}`
  const common = { suite: 'memory', durability }
  return [
    {
      ...common,
      name: `${name}: RSS slope`,
      value: result.slopeMiB,
      unit: 'MiB/100k',
      target: { atMost: SLOPE_TARGET_MIB },
    },
    { ...common, name: `${name}: RSS at the end`, value: result.endMiB, unit: 'MiB' },
    { ...common, name: `${name}: rate`, value: result.perSecond, unit: 'msg/s' },
  ]
}

function awayFigures(
  { whenFull, awayMs }: MemoryCase & { readonly kind: 'away' },
  result: MemoryResult,
): readonly Figure[] {
  if (result.kind !== 'away') return []
  const name = `broker away ${awayMs / 1_000} s, ${whenFull} when full`
  const common = { suite: 'memory', durability: 'none (memory broker)' }
  return [
    {
      ...common,
      name: `${name}: RSS peak minus base`,
      value: result.peakMiB - result.baseMiB,
      unit: 'MiB',
      target: { atMost: result.boundMiB },
    },
    {
      ...common,
      name: `${name}: RSS, last quarter minus third`,
      value: result.growingMiB,
      unit: 'MiB',
      target: { atMost: STILL_GROWING_MIB },
    },
    { ...common, name: `${name}: most that waited`, value: result.mostWaiting, unit: 'messages' },
    { ...common, name: `${name}: offered meanwhile`, value: result.offeredMiB, unit: 'MiB' },
    {
      ...common,
      name: `${name}: unaccounted for`,
      value: result.missing,
      unit: 'messages',
      target: { atMost: 0 },
    },
  ]
}
