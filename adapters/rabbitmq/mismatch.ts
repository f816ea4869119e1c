import type { Difference } from './differences.ts'
import { NONE } from './differences.ts'
import { brokerText, REPLY, replyCodeOf } from './errors.ts'
import type { Setting } from './wanted.ts'

/** One argument or attribute that a 406 names. */
export interface Mismatch {
  readonly difference: Difference
  /** What has to be declared for the broker to find it the same; `undefined`: without it. */
  readonly adopted: Setting | undefined
}

const inequivalent =
  /inequivalent arg '([^']+)' for (?:queue|exchange) '[^']*' in vhost '[^']*': received (.+) but current is (.+?)$/s

/** What the broker found different when something was declared again; `null` for any other error. */
export function mismatchOf(error: unknown): Mismatch | null {
  if (replyCodeOf(error) !== REPLY.preconditionFailed) return null
  const [, name, received, current] = inequivalent.exec(brokerText(error)) ?? []
  if (name === undefined || received === undefined || current === undefined) return null
  const setting = named(name)
  const found = valueOf(current)
  const declared = valueOf(received)
  const difference = {
    setting,
    declared: String(declared ?? NONE),
    found: String(found ?? NONE),
    argumentsOnly: name.startsWith('x-'),
  }
  return { difference, adopted: found }
}

function named(argument: string): string {
  if (argument === 'auto_delete') return 'auto-delete'
  return argument.startsWith('x-') ? argument.slice(2) : argument
}

/** `none`, `'true'` or `the value '1000' of type 'signedint'`. */
function valueOf(text: string): Setting | undefined {
  const [, value, type] = /'(.*?)'(?: of type '([^']*)')?$/s.exec(text.trim()) ?? []
  if (value === undefined) return undefined
  if (value === 'true' || value === 'false') return value === 'true'
  const isNumber = type !== undefined && type !== 'longstr' && /^-?\d+$/.test(value)
  return isNumber ? Number(value) : value
}
