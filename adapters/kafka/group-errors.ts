import { HoldfastError, isHoldfastError, type ErrorCode } from '../../src/contract/errors.ts'
import { brokerErrorOf } from './admin-errors.ts'

/**
 * What an error of a group's coordinator means. rebalance: join again. overtaken: the group went on without
 * us, who are still its member: what was assigned is lost. fenced: the membership is over. moved: another node is the coordinator, or will be. too-large: the metadata of a commit. forbidden:
 * trying again does not help. passing: it may.
 */
export type GroupTrouble =
  'rebalance' | 'overtaken' | 'fenced' | 'moved' | 'too-large' | 'forbidden' | 'passing'

const troubles: ReadonlyMap<number, GroupTrouble> = new Map([
  [12, 'too-large'],
  [14, 'passing'],
  [15, 'moved'],
  [16, 'moved'],
  [22, 'overtaken'],
  [23, 'forbidden'],
  [24, 'forbidden'],
  [25, 'fenced'],
  [26, 'forbidden'],
  [27, 'rebalance'],
  [28, 'too-large'],
  [29, 'forbidden'],
  [30, 'forbidden'],
  [31, 'forbidden'],
  [35, 'forbidden'],
  [81, 'forbidden'],
  [82, 'fenced'],
])

const advice: ReadonlyMap<number, string> = new Map([
  [
    23,
    'another consumer of the group shares no assigner with this one: let it use kafkajs or holdfast, or give this one a group id of its own',
  ],
  [26, 'set sessionTimeoutMs between group.min.session.timeout.ms and its maximum on the broker'],
  [29, 'allow READ on the topic to the user of the connection'],
  [30, 'allow READ on the group to the user of the connection'],
  [81, 'raise group.max.size on the broker'],
])

/** What can be done about it. Losing the connection is passing: the coordinator is looked for again. */
export function troubleOf(error: unknown): GroupTrouble {
  const broker = brokerErrorOf(error)
  if (broker !== null) return troubles.get(broker.code) ?? 'passing'
  return isHoldfastError(error) && error.code === 'capability' ? 'forbidden' : 'passing'
}

/** A named error that says what was being done, and what to do about it. */
export function groupError(what: string, error: unknown): HoldfastError {
  if (isHoldfastError(error)) return error
  const broker = brokerErrorOf(error)
  const why = broker?.text ?? (error instanceof Error ? error.message : String(error))
  const hint = broker === null ? undefined : advice.get(broker.code)
  const text = `${what} failed: ${why}${hint === undefined ? '' : `: ${hint}`}`
  return new HoldfastError(codeOf(error), text, { cause: error })
}

function codeOf(error: unknown): ErrorCode {
  switch (troubleOf(error)) {
    case 'forbidden':
      return 'rejected'
    case 'fenced':
    case 'overtaken':
    case 'rebalance':
      return 'aborted'
    case 'too-large':
      return 'too-large'
    case 'moved':
      return 'unavailable'
    case 'passing':
      return brokerErrorOf(error) === null ? 'connection-lost' : 'unavailable'
  }
}
