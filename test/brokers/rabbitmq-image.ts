import { imageOf } from './image.ts'

/** `current` is 4.3, the version everything is tested on; `old` is one before 4.3. */
export type RabbitmqVersion = 'current' | 'old'

/** The image to test with: the one named by the environment, else the official one, else our own. */
export function rabbitmqImage(version: RabbitmqVersion): Promise<string> {
  return imageOf(version === 'current' ? 'HOLDFAST_RABBITMQ_IMAGE' : 'HOLDFAST_RABBITMQ_OLD_IMAGE')
}
