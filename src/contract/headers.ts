/**
 * The headers holdfast itself writes: few, all starting with `holdfast-`, all plain text, so that any
 * other client can read them.
 */
export const ownHeaders = {
  /** Attempts already made, decimal; written on a retry that travels through the broker. */
  attempt: 'holdfast-attempt',
  /** Milliseconds of a retry delay that are left after the present level; see `retryLevelsMs`. */
  remaining: 'holdfast-remaining-ms',
  /** Unix milliseconds after which a message is not handled any more. */
  expires: 'holdfast-expires-ms',
  /** Why a message was dead-lettered: one of the dead-letter reasons. */
  deadReason: 'holdfast-dead-reason',
  /** The error's name and text, at most 1 024 characters. */
  deadError: 'holdfast-dead-error',
  /** Attempts made before the dead letter, decimal. */
  deadAttempts: 'holdfast-dead-attempts',
  /** Unix milliseconds of the dead letter. */
  deadAt: 'holdfast-dead-at-ms',
  /** '1': the broker refused the dead letter with the headers it came with, which are lost; body, key and id are not. */
  deadBare: 'holdfast-dead-bare',
  /** Where the dead letter was read: source and coordinates. */
  deadFrom: 'holdfast-dead-from',
} as const

/** True for headers that belong to holdfast and are stripped before a message is shown to a handler. */
export function isOwnHeader(name: string): boolean {
  return name.startsWith('holdfast-')
}
