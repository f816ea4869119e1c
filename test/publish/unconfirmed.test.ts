import { describe, expect, it } from 'vitest'

import { CONFIRMED } from '../../src/contract/broker.ts'
import { Notes, Stage } from './stage.ts'

const confirming = { answer: () => CONFIRMED }

describe('a process that ends', () => {
  it('counts what was not confirmed in a last event, through one hook for all publishers', async () => {
    const hooks = process.listenerCount('exit')
    const [stage, other] = [new Stage(), new Stage(confirming)]
    expect(process.listenerCount('exit')).toBe(hooks + 1)
    const open = stage.publisher.publish(Notes, 1).catch((error: Error) => error.name)
    await other.clock.run(other.publisher.publish(Notes, 1))
    const hook = process.listeners('exit').at(-1) as () => void
    hook()
    expect(stage.of('process.unconfirmed')).toEqual([{ type: 'process.unconfirmed', count: 1 }])
    expect(other.of('process.unconfirmed')).toEqual([])
    await stage.clock.run(stage.publisher.close({ timeoutMs: 10 }))
    await other.clock.run(other.publisher.close({ timeoutMs: 10 }))
    expect(process.listenerCount('exit')).toBe(hooks)
    expect(await open).toBe('PublishRefusedError')
  })
})
