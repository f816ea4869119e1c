import type { Due } from './timeline.ts'

/** A task for an instant of the timeline. */
export class Later implements Due {
  dueAt: number
  order = 0
  place = -1
  readonly #task: () => void

  constructor(dueAt: number, task: () => void) {
    this.dueAt = dueAt
    this.#task = task
  }

  due(): void {
    this.#task()
  }
}
