/**
 * Named places at which a test may kill the process, so that a crash can be aimed between any two
 * steps. In production nothing is injected and a visit costs one call of an empty function.
 */
export type CrashPoint =
  // enqueue
  | 'after_insert_before_commit'
  | 'after_commit_before_nudge'
  // relay
  | 'after_lease'
  | 'after_select'
  | 'after_send_some'
  | 'after_send_all'
  | 'after_confirm_some'
  | 'after_confirm_before_delete'
  | 'during_delete'
  | 'after_delete_before_ack_state'
  | 'during_park'
  | 'during_lease_renew'
  | 'during_shutdown'
  // consumer
  | 'after_deliver'
  | 'after_begin'
  | 'after_inbox_insert'
  | 'after_effect'
  | 'after_commit_before_ack'
  | 'after_ack'
  | 'before_retry_publish'
  | 'after_retry_publish_before_ack'
  | 'after_dlq_publish_before_ack'
  | 'handler_throw'

/** What a crash point calls. */
export interface CrashPoints {
  /** Says that the process is at `point` now; an injected implementation may not return. */
  at(point: CrashPoint): void
}

/** No crashes: the default. */
export const noCrashes: CrashPoints = Object.freeze({ at: () => undefined })
