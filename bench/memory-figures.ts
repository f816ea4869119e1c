import type { Figure } from './figure.ts'
import type { MemoryResult } from './memory-case.ts'

/** Resident memory may grow by that much per million messages. */
const SLOPE_TARGET_MIB = 1

/** What many messages through a broker's adapter did to the process that published and consumed them. */
export function slopeFigures(
  suite: string,
  durability: string,
  result: MemoryResult,
): readonly Figure[] {
  if (result.kind !== 'steady') return []
  const count = result.messages.toLocaleString('en-US').replaceAll(',', ' ')
  const name = `${count} published and consumed`
  const common = { suite, durability }
  return [
    {
      ...common,
      name: `${name}: RSS slope`,
      value: result.slopeMiB * 10,
      unit: 'MiB/million',
      target: { atMost: SLOPE_TARGET_MIB },
    },
    { ...common, name: `${name}: RSS at the end`, value: result.endMiB, unit: 'MiB' },
    { ...common, name: `${name}: rate`, value: result.perSecond, unit: 'msg/s' },
  ]
}
