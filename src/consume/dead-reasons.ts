/** Why a message can be dead-lettered; closed, and what the header and the event say. */
export const deadReasons = [
  'schema',
  'codec',
  'no-id',
  'permanent',
  'attempts-exhausted',
  'expired',
] as const

/** One of `deadReasons`. */
export type DeadReason = (typeof deadReasons)[number]
