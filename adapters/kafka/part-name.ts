import type { TopicPartition } from './driver.ts'

/** Topic and partition as one text. */
export function nameOf({ topic, partition }: TopicPartition): string {
  return `${topic}/${partition}`
}
