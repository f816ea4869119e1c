import { describe, expect, it } from 'vitest'

import { TopicTable } from '../../../adapters/rabbitmq/topics.ts'
import { resolveMap } from '../../../adapters/rabbitmq/mapping.ts'
import { systemClock, systemRandom, type Clock } from '../../../src/contract/clock.ts'
import { deadName, queueName, retryName } from '../../../src/contract/names.ts'
import { partitionOf } from '../../../src/contract/partition.ts'
import { topicOf } from './broker-stage.ts'

const key = (text: string): Uint8Array => Buffer.from(text)

function tableOf(map: object = {}, clock: Clock = systemClock, prefix = ''): TopicTable {
  return new TopicTable({ prefix, map: resolveMap(map) }, clock, systemRandom)
}

describe('the plan of a topic', () => {
  it('uses the same names as every other broker', () => {
    const plan = tableOf().declare(topicOf('orders', { retryLevelsMs: [1_000] }))
    expect(plan.exchange).toBe('orders')
    expect(plan.queues('a')).toEqual([queueName('orders', 'a')])
    expect(plan.dead('a')).toBe(deadName('orders', 'a'))
    expect(plan.retry('a', 1_000).exchange).toBe(retryName('orders', 'a', 1_000))
  })

  it('routes by the key, when it is text that fits, without partitions', () => {
    const plan = tableOf().declare(topicOf('orders'))
    expect(plan.partitions).toBeNull()
    expect(plan.routingKey(key('kä'))).toBe('kä')
    expect(plan.routingKey(null)).toBe('')
    expect(plan.routingKey(new Uint8Array([0xff, 0xfe]))).toBe('')
    expect(plan.routingKey(key('x'.repeat(255)))).toHaveLength(255)
    expect(plan.routingKey(key('x'.repeat(256)))).toBe('')
    expect(plan.queueFor('a', key('k'))).toBe('orders.a')
  })

  it('spreads keys over partitions as Kafka does, for topic and group alike', () => {
    const plan = tableOf().declare(topicOf('orders', { partitions: 6, ordering: 'key' }))
    expect(plan.ordered).toBe(true)
    expect(plan.queues('a')).toHaveLength(6)
    for (const text of ['a', 'customer-9', 'ü', '']) {
      const partition = partitionOf(key(text), 6)
      expect(plan.routingKey(key(text))).toBe(String(partition))
      expect(plan.queueFor('a', key(text))).toBe(`orders.a.${partition}`)
    }
  })

  it('keeps a burst without keys on one partition, and the next burst on any', () => {
    const deferred: (() => void)[] = []
    const clock: Clock = { ...systemClock, defer: (task) => void deferred.push(task) }
    const plan = tableOf({}, clock).declare(topicOf('orders', { partitions: 8 }))
    const seen = new Set<string>()
    for (let burst = 0; burst < 200; burst++) {
      const chosen = new Set(Array.from({ length: 10 }, () => plan.routingKey(null)))
      expect(chosen.size).toBe(1)
      expect(deferred).toHaveLength(1)
      deferred.pop()?.()
      seen.add([...chosen][0] as string)
    }
    expect([...seen].sort()).toEqual(['0', '1', '2', '3', '4', '5', '6', '7'])
  })

  it('takes the level that is the delay or the next above, never an earlier one', () => {
    const table = tableOf()
    table.declare(topicOf('orders', { retryLevelsMs: [5_000, 1_000] }))
    const plan = table.declare(topicOf('orders', { retryLevelsMs: [30_000] }))
    expect([1, 1_000, 1_001, 30_000].map((ms) => plan.retry('a', ms).levelMs)).toEqual([
      1_000, 1_000, 5_000, 30_000,
    ])
    expect(plan.retry('a', 30_001)).toEqual({
      exchange: 'orders.a.retry.30001',
      levelMs: 30_001,
    })
  })

  it('uses no number as routing key while nobody said whether there are partitions', () => {
    const table = tableOf({ mapped: { exchange: 'there' } })
    const plan = table.keep('orders')
    expect(['42', '', 'k', '4k'].map((text) => plan.routingKey(key(text)))).toEqual([
      '',
      '',
      'k',
      '4k',
    ])
    expect(table.of('mapped').routingKey(key('42'))).toBe('42')
    plan.settle(null)
    expect([plan.isKnown, plan.routingKey(key('42'))]).toEqual([true, '42'])
    plan.settle(6)
    expect(plan.routingKey(key('42'))).toBe(String(partitionOf(key('42'), 6)))
  })

  it('keeps what it was told, and forgets only what it guessed', () => {
    const table = tableOf()
    table.keep('orders').tell({ ordering: 'key', partitions: 2 })
    for (let n = 0; n < 3_000; n++) table.of(`topic-${n}`)
    expect([table.of('orders').partitions, table.of('orders').ordered]).toEqual([2, true])
    table.keep('orders').tell({ ordering: 'none', partitions: null })
    expect([table.of('orders').partitions, table.of('orders').ordered]).toEqual([2, true])
  })

  it('answers for topics that nobody declared, in bounded memory, and never throws', () => {
    const table = tableOf()
    const guess = table.of('unknown')
    expect(guess).toBe(table.of('unknown'))
    expect([guess.partitions, guess.ordered, guess.unbound]).toEqual([null, false, null])
    expect(guess.queues('a')).toEqual(['unknown.a'])
    for (let n = 0; n < 3_000; n++) table.of(`t${n}`)
    expect(table.of('unknown')).not.toBe(guess)
    expect(table.of('ä / x'.repeat(100)).queueFor('', null)).toMatch(/^ä/)
    const declared = table.declare(topicOf('kept'))
    for (let n = 0; n < 3_000; n++) table.of(`u${n}`)
    expect(table.of('kept')).toBe(declared)
  })

  it('leads to what is mapped, and to its own for the rest', () => {
    const map = {
      orders: { exchange: 'legacy', routingKey: 'created', groups: { a: { queue: 'q' } } },
    }
    const plan = tableOf(map, systemClock, 'dev.').declare(
      topicOf('orders', { groups: ['a', 'b'] }),
    )
    expect(plan.exchange).toBe('legacy')
    expect(plan.routingKey(key('k'))).toBe('created')
    expect(plan.queues('a')).toEqual(['q'])
    expect(plan.queues('b')).toEqual(['dev.orders.b'])
    expect(plan.dead('a')).toBe('dev.orders.a.dead')
  })
})
