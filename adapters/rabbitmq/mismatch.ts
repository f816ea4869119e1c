import { NONE, type Difference } from './differences.ts'
import { brokerText, REPLY, replyCodeOf } from './errors.ts'

const inequivalent =
  /inequivalent arg '([^']+)' for (?:queue|exchange) '.*' in vhost '.*': received (.+) but current is (.+?)$/s

/** What the broker found different when something was declared again; `null` for any other error. */
export function mismatchOf(error: unknown): Difference | null {
  if (replyCodeOf(error) !== REPLY.preconditionFailed) return null
  const [, name, received, current] = inequivalent.exec(brokerText(error)) ?? []
  if (name === undefined || received === undefined || current === undefined) return null
  return {
    setting: named(name),
    declared: valueOf(received),
    found: valueOf(current),
    argumentsOnly: name.startsWith('x-'),
  }
}

function named(argument: string): string {
  if (argument === 'auto_delete') return 'auto-delete'
  return argument.startsWith('x-') ? argument.slice(2) : argument
}

/** `none`, `'true'`, or `the value '1000' of type 'signedint'`. */
function valueOf(text: string): string {
  return /'(.*?)'(?: of type '[^']*')?$/s.exec(text.trim())?.[1] ?? NONE
}
