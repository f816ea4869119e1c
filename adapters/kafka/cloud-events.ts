/** CloudEvents 1.0 over Kafka, binary mode: attributes are headers of these names, as UTF-8. */
export const ATTRIBUTES = {
  specversion: 'ce_specversion',
  id: 'ce_id',
  type: 'ce_type',
  source: 'ce_source',
  time: 'ce_time',
  contentType: 'content-type',
} as const

/**
 * Where a message was first read, on its copies in retry and dead-letter topics:
 * `topic/partition/offset/timestamp`, by Kafka's names.
 */
export const ORIGIN = 'holdfast-origin'
