import type { Health, TellHealth } from './health.ts'

const ORDER: readonly Health[] = ['up', 'weak', 'away']

/** The health of one part of which several things can go wrong at a time: that of the worst. */
export class Aspects {
  readonly #tell: TellHealth
  readonly #aspects = new Map<string, readonly [Health, string | null]>()

  constructor(tell: TellHealth) {
    this.#tell = tell
  }

  /** How the aspect of that name is told. */
  of(name: string): TellHealth {
    return (health, reason) => {
      this.#aspects.set(name, [health, reason])
      this.#tell(...this.#worst())
    }
  }

  #worst(): readonly [Health, string | null] {
    let worst: readonly [Health, string | null] = ['up', null]
    for (const one of this.#aspects.values()) {
      if (ORDER.indexOf(one[0]) > ORDER.indexOf(worst[0])) worst = one
    }
    return worst
  }
}
