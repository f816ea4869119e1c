/**
 * The promise of a publication that was refused: rejects like any other, and knows whether anybody took
 * it. Of its own it is never an unhandled rejection: what nobody took fails the try instead.
 */
export class Refusal extends Promise<never> {
  /** Somebody awaited it, or chained onto it. */
  taken = false

  /** What is chained onto it is an ordinary promise. */
  static override get [Symbol.species](): PromiseConstructor {
    return Promise
  }

  static of(error: Error): Refusal {
    const refusal = new Refusal((_resolve, reject) => reject(error))
    void Promise.prototype.then.call(refusal, undefined, () => undefined)
    return refusal
  }

  // Await and Promise.all come through here too, since this is no plain promise.
  // oxlint-disable-next-line unicorn/no-thenable
  override then<Value = never, Reason = never>(
    onFulfilled?: ((value: never) => Value | PromiseLike<Value>) | null,
    onRejected?: ((reason: unknown) => Reason | PromiseLike<Reason>) | null,
  ): Promise<Value | Reason> {
    this.taken = true
    return super.then(onFulfilled, onRejected)
  }
}
