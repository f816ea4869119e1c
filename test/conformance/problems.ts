/** Collects what went wrong while cleaning up, so that one failure does not hide the others. */
export class Problems {
  readonly #found: unknown[] = []

  add(...problems: readonly unknown[]): void {
    this.#found.push(...problems)
  }

  /** Runs the step and keeps its failure. */
  async during(step: () => Promise<void>): Promise<void> {
    try {
      await step()
    } catch (error) {
      this.#found.push(error)
    }
  }

  /** Throws what was found: the one failure itself, several as one. */
  raise(): void {
    if (this.#found.length === 1) throw this.#found[0] as Error
    if (this.#found.length > 1) {
      throw new AggregateError(this.#found, this.#found.map(String).join('\n'))
    }
  }
}

/**
 * Runs `act`, then `end` whatever happened. The act's own failure is the one that is told: what is
 * left over because of it says less.
 */
export async function actThenEnd(
  act: () => Promise<void>,
  end: () => Promise<void>,
): Promise<void> {
  try {
    await act()
  } catch (error) {
    await end().catch(() => undefined)
    throw error
  }
  await end()
}
