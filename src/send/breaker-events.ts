import type { Emit } from '../contract/events.ts'
import type { Breaker } from '../policy/circuit-breaker.ts'

/** Tells each change of a breaker's state once; returns how to stop. */
export function tellStates(breaker: Breaker, name: string, emit: Emit): () => void {
  let told = breaker.generation
  return breaker.onChange((state) => {
    if (breaker.generation === told) return
    told = breaker.generation
    emit({ type: 'breaker.state', name, state })
  })
}
