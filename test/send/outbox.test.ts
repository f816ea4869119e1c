import { describe, expect, it } from 'vitest'

import { outboxRow } from '../../src/send/outbox.ts'
import { envelope } from './stage.ts'

describe('outboxRow', () => {
  it('gives messages of one key one hash, which blocks that key only', () => {
    const [one, other] = [outboxRow(envelope('1', 'k')), outboxRow(envelope('2', 'k'))]
    expect(one.hash).toBe(other.hash)
    expect(one.keyHash).toBe(one.hash)
    expect(one.keyHash).not.toBe(0)
    expect(outboxRow(envelope('1', 'l')).hash).not.toBe(one.hash)
    expect(outboxRow(envelope('1', 'k', 'payments')).hash).not.toBe(one.hash)
  })

  it('spreads unordered messages by their id and gives them no key to block', () => {
    const rows = Array.from({ length: 100 }, (_, n) => outboxRow(envelope(`${n}`)))
    expect(new Set(rows.map(({ hash }) => hash))).toHaveLength(100)
    expect(rows.every(({ keyHash }) => keyHash === 0)).toBe(true)
  })

  it('tells a group and its dead letters from the topic', () => {
    const to = { topic: 'orders', group: 'g' }
    const hashes = [
      outboxRow(envelope('1', 'k')),
      outboxRow(envelope('1', 'k', { kind: 'group', ...to, delayMs: 0 })),
      outboxRow(envelope('1', 'k', { kind: 'dead', ...to })),
      outboxRow(envelope('1', 'k', { kind: 'reply', address: 'a' })),
    ].map(({ hash }) => hash)
    expect(new Set(hashes)).toHaveLength(4)
  })

  it('keeps the hash for ever: stored rows depend on it', () => {
    expect(outboxRow(envelope('1', 'customer-1')).hash).toBe(2_209_098_088)
  })
})
