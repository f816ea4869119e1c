import type { Properties } from './client.ts'

/** What a received message carried beyond the envelope; sent along when it goes to RabbitMQ again. */
export class Native {
  readonly properties: Properties

  constructor(properties: Properties) {
    this.properties = properties
  }
}
