import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { Emitter } from '../../src/observe/emitter.ts'
import { logEvents } from '../../src/observe/logging.ts'

const dead = {
  type: 'message.dead',
  topic: 'orders',
  group: 'billing',
  id: 'o-1',
  attempt: 3,
  at: '0:7',
  reason: 'schema',
  error: new Error('cents: expected a number'),
} as const

describe('Emitter', () => {
  it('wants only what somebody listens to', () => {
    const emitter = new Emitter()
    expect(emitter.emit.wants('message.dead')).toBe(false)
    const stop = emitter.on(() => undefined, ['message.dead'])
    expect(emitter.emit.wants('message.dead')).toBe(true)
    expect(emitter.emit.wants('warning')).toBe(false)
    stop()
    expect(emitter.emit.wants('message.dead')).toBe(false)
  })

  it('tells the others when a listener throws', () => {
    const heard: string[] = []
    const emitter = new Emitter(() => {
      throw new Error('listener')
    })
    emitter.on((event) => heard.push(event.type))
    emitter.emit(dead)
    expect(heard).toEqual(['message.dead'])
    expect(emitter.failed).toBe(1)
  })
})

describe('a listener that is an async function', () => {
  const unhandled: unknown[] = []
  const hear = (error: unknown): void => void unhandled.push(error)
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

  beforeEach(() => {
    unhandled.length = 0
    process.on('unhandledRejection', hear)
  })
  afterEach(() => void process.off('unhandledRejection', hear))

  it('may reject without anybody being hurt', async () => {
    const emitter = new Emitter(() => Promise.reject(new Error('listener')) as never)
    emitter.emit(dead)
    emitter.emit(dead)
    await turn()
    expect(emitter.failed).toBe(2)
    expect(unhandled).toEqual([])
  })

  it('may be where the log lines go', async () => {
    const emitter = new Emitter()
    logEvents(emitter, { warn: () => Promise.reject(new Error('log')) as never })
    emitter.emit(dead)
    await turn()
    expect(emitter.failed).toBe(1)
    expect(unhandled).toEqual([])
  })
})

describe('logEvents', () => {
  it('writes a line for a dead letter and repeats no warning', () => {
    const lines: string[] = []
    const emitter = new Emitter()
    logEvents(emitter, { warn: (line) => lines.push(line) })
    emitter.emit(dead)
    emitter.emit({ type: 'warning', code: 'a', message: 'careful' })
    emitter.emit({ type: 'warning', code: 'a', message: 'careful' })
    expect(lines).toEqual([
      'holdfast: message o-1 of topic "orders", group "billing" was dead-lettered (schema) after 3 attempts: cents: expected a number',
      'holdfast: careful (a)',
    ])
  })

  it('can be silenced', () => {
    const emitter = new Emitter()
    logEvents(emitter, 'silent')
    expect(emitter.emit.wants('message.dead')).toBe(false)
  })
})
