import type { Source } from '../../src/contract/broker.ts'

/**
 * A bucket of a queue, leased to us once. held: ours. revoking: asked back, not delivering any more.
 * lost: no longer ours, its settles are stale.
 */
export class BucketSource implements Source {
  readonly name: string
  readonly epoch: number
  readonly bucket: number
  state: 'held' | 'revoking' | 'lost' = 'held'
  paused: boolean
  /** Rows up to this id were handed out before, by whoever had the bucket. */
  handedTo: number
  /** Deliveries handed over and not settled. */
  held = 0

  constructor(
    queueName: string,
    lease: { readonly bucket: number; readonly epoch: number; readonly handedTo: number },
    paused: boolean,
  ) {
    this.name = `${queueName}#${lease.bucket}`
    this.epoch = lease.epoch
    this.bucket = lease.bucket
    this.handedTo = lease.handedTo
    this.paused = paused
  }

  get delivers(): boolean {
    return this.state === 'held' && !this.paused
  }
}
