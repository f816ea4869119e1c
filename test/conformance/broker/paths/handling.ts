import assert from 'node:assert/strict'

import { PermanentError } from '../../../../src/contract/errors.ts'
import type { HoldfastEvent } from '../../../../src/contract/events.ts'
import { ownHeaders } from '../../../../src/contract/headers.ts'
import { headerOf, type Destination, type Envelope } from '../../../../src/contract/message.ts'
import { topic } from '../../../../src/contract/topic.ts'
import { constant } from '../../../../src/policy/backoff.ts'
import {
  memoryDatabase,
  memoryInbox,
  type MemoryTransaction,
} from '../../../../adapters/memory/index.ts'
import type { Case } from '../../case.ts'
import { draft } from '../envelopes.ts'
import type { BrokerHarness } from '../harness.ts'
import { HandlerLog } from './log.ts'
import { deal, pathCase, type Item, type Items, type Scene } from './scene.ts'
import { Witness } from './witness.ts'

type Dead = Extract<HoldfastEvent, { type: 'message.dead' }>

/** Collects the dead letters a consumer tells of. */
function deadLetters(): { readonly dead: Dead[]; readonly on: (event: HoldfastEvent) => void } {
  const dead: Dead[] = []
  return { dead, on: (event) => event.type === 'message.dead' && dead.push(event) }
}

async function dies(scene: Scene, dead: readonly Dead[], count: number): Promise<void> {
  await scene.eventually(
    () => `${dead.length} of ${count} dead-lettered`,
    () => dead.length >= count,
  )
}

/** The dead letters of the topic where the broker can show them. */
async function inspected(scene: Scene, items: Items): Promise<readonly Envelope[] | null> {
  const { broker } = await scene.connect()
  const to: Destination = { kind: 'dead', topic: items.name, group: 'a' }
  return broker.inspect === undefined ? null : broker.inspect.browse(to, 10)
}

/** The way out, through `ReliableConsumer`: effect first, then the acknowledgement; failures counted. */
export const handlingCases: readonly Case<BrokerHarness>[] = [
  pathCase('handles each message once, and acknowledges it after its effect', [], async (scene) => {
    const items = scene.items()
    const witness = new Witness(scene.clock)
    const publisher = await scene.publisher(items)
    await scene.consumer(items, {
      witness,
      handler: async (_, { id }) => {
        await new Promise<void>((resolve) => scene.clock.defer(resolve))
        witness.effect(id)
      },
    })
    await publisher.publishBatch(items, deal(['x', 'y', 'z'], 30))
    await scene.eventually(
      () => `${witness.count({ what: 'ack' })} of 90 acknowledged`,
      () => witness.count({ what: 'ack' }) === 90,
    )
    assert.equal(witness.count({ what: 'effect' }), 90)
    for (const { id } of witness.steps.filter(({ what }) => what === 'ack')) {
      const effect = witness.find({ what: 'effect', id })
      assert.ok(effect >= 0 && effect < witness.find({ what: 'ack', id }))
    }
  }),

  pathCase(
    'handles a failed message again, counted, never before its backoff',
    [],
    async (scene) => {
      const items = scene.items()
      const publisher = await scene.publisher(items)
      const tries: { readonly attempt: number; readonly atMs: number }[] = []
      await scene.consumer(items, {
        retry: { attempts: 5, backoff: constant(scene.shortRetryMs) },
        handler: (_, { attempt }) => {
          tries.push({ attempt, atMs: scene.clock.now() })
          if (attempt < 3) throw new Error('not yet')
        },
      })
      await publisher.publish(items, { key: 'k', n: 0 })
      await scene.eventually(
        () => `${tries.length} of 3 tries`,
        () => tries.length === 3,
      )
      await scene.quiet('tried again after it had worked', () => tries.length)
      assert.deepEqual(
        tries.map(({ attempt }) => attempt),
        [1, 2, 3],
      )
      tries.slice(1).forEach(({ atMs }, index) => {
        const waited = atMs - tries[index]!.atMs
        assert.ok(waited >= scene.shortRetryMs - 2, `try ${index + 2} came after ${waited} ms`)
      })
    },
  ),

  pathCase(
    'handles in vain, then dead-letters: stored first, acknowledged after',
    [],
    async (scene) => {
      const items = scene.items()
      const witness = new Witness(scene.clock)
      const { dead, on } = deadLetters()
      const publisher = await scene.publisher(items)
      let tries = 0
      await scene.consumer(items, {
        witness,
        on,
        retry: { attempts: 3, backoff: constant(10) },
        handler: () => {
          tries++
          throw new Error('never')
        },
      })
      const { id } = await publisher.publish(items, { key: 'k', n: 0 })
      await dies(scene, dead, 1)
      await scene.eventually(
        () => 'the dead-lettered message was not acknowledged',
        () => witness.steps.at(-1)?.what === 'ack',
      )
      assert.equal(tries, 3)
      assert.equal(dead[0]?.reason, 'attempts-exhausted')
      const stored = witness.find({ what: 'confirmed', kind: 'dead', id })
      assert.ok(stored >= 0, 'no dead letter was confirmed')
      assert.ok(
        witness.find({ what: 'ack', id }, stored) > stored,
        'acknowledged before it was stored',
      )
      const [letter] = (await inspected(scene, items)) ?? []
      if (letter === undefined) return
      assert.equal(letter.id, id)
      assert.equal(headerOf(letter.headers, ownHeaders.deadReason), 'attempts-exhausted')
      assert.equal(headerOf(letter.headers, ownHeaders.deadAttempts), '3')
    },
  ),

  pathCase('keeps a message whose dead letter cannot be stored', [], async (scene) => {
    for (const how of ['refuse', 'lose'] as const) {
      const items = scene.items()
      const witness = new Witness(scene.clock)
      const publisher = await scene.publisher(items)
      witness.mislead(how, ({ to }) => to.kind === 'dead', Infinity)
      const doomed = await scene.consumer(items, {
        witness,
        handler: () => Promise.reject(new PermanentError('hopeless')),
      })
      await publisher.publish(items, { key: 'k', n: 0 })
      await scene.eventually(
        () => `${witness.count({ what: 'sent', kind: 'dead' })} tries to store the dead letter`,
        () => witness.count({ what: 'sent', kind: 'dead' }) >= 2,
      )
      assert.equal(witness.count({ what: 'ack' }), 0, 'acknowledged without a stored dead letter')
      await scene.within('close()', doomed.close({ timeoutMs: 200 }))
      assert.equal(witness.count({ what: 'ack' }), 0)
      const log = new HandlerLog()
      const saviour = await scene.consumer(items, { handler: (item) => log.ended.push(item) })
      await scene.eventually(
        () => `the message did not come again (dead letters end with ${how})`,
        () => log.ended.length >= 1,
      )
      await saviour.close({ timeoutMs: scene.limitMs })
    }
  }),

  pathCase('handles a hopeless message once', [], async (scene) => {
    const items = scene.items()
    const { dead, on } = deadLetters()
    const publisher = await scene.publisher(items)
    let tries = 0
    await scene.consumer(items, {
      on,
      handler: () => {
        tries++
        throw new PermanentError('hopeless')
      },
    })
    await publisher.publish(items, { key: 'k', n: 0 })
    await dies(scene, dead, 1)
    assert.equal(tries, 1)
    assert.equal(dead[0]?.reason, 'permanent')
  }),

  pathCase('handles nothing that it cannot read, and keeps its bytes', [], async (scene) => {
    const items = scene.items()
    const { dead, on } = deadLetters()
    let tries = 0
    await scene.consumer(items, { on, handler: () => void tries++ })
    const connection = await scene.connect()
    const body = Uint8Array.from([0xff, 0xfe, 0x7b])
    await connection.confirmed([draft(items.name, { body })])
    await dies(scene, dead, 1)
    assert.equal(dead[0]?.reason, 'codec')
    assert.equal(tries, 0)
    const [letter] = (await inspected(scene, items)) ?? []
    if (letter !== undefined) assert.deepEqual(Buffer.from(letter.body!), Buffer.from(body))
  }),

  pathCase('handles nothing that does not fit the schema', [], async (scene) => {
    const items = scene.items()
    const issues = [{ message: 'too much', path: ['n'] }]
    const strict = topic<Item>(items.name, {
      key: ({ key }) => key,
      ordering: 'none',
      schema: {
        '~standard': {
          version: 1,
          vendor: 'conformance',
          validate: (value) => ((value as Item).n < 3 ? { value: value as Item } : { issues }),
        },
      },
    })
    const { dead, on } = deadLetters()
    const log = new HandlerLog()
    await scene.consumer(strict, { on, handler: (item) => log.ended.push(item) })
    const publisher = await scene.publisher(items)
    await publisher.publishBatch(items, deal(['k'], 5))
    await dies(scene, dead, 2)
    await scene.eventually(
      () => `${log.ended.length} of 3 handled`,
      () => log.ended.length === 3,
    )
    assert.deepEqual(new Set(dead.map(({ reason }) => reason)), new Set(['schema']))
  }),

  pathCase('handles nothing that has expired', [], async (scene) => {
    const items = scene.items()
    const { dead, on } = deadLetters()
    let tries = 0
    const publisher = await scene.publisher(items)
    await publisher.publish(items, { key: 'k', n: 0 }, { expiresAt: scene.clock.wallMs() + 1 })
    await new Promise<void>((resolve) => scene.clock.after(5, resolve))
    await scene.consumer(items, { on, handler: () => void tries++ })
    await dies(scene, dead, 1)
    assert.equal(dead[0]?.reason, 'expired')
    assert.equal(tries, 0)
  }),

  pathCase(
    'handles two identical messages without an id twice where no id is required',
    [],
    async (scene) => {
      const items = scene.items()
      const database = memoryDatabase()
      await scene.consumer<MemoryTransaction>(items, {
        inbox: memoryInbox({ database }),
        requireId: false,
        handler: (item, { tx }) => tx.add('effects', item),
      })
      const connection = await scene.connect()
      const foreign = draft(items.name, { id: null, body: JSON.stringify({ key: 'k', n: 0 }) })
      await connection.confirmed([foreign, foreign])
      await scene.eventually(
        () => `${database.rows('effects').length} of 2 effects`,
        () => database.rows('effects').length === 2,
      )
      await scene.quiet('more effects than messages', () => database.rows('effects').length)
    },
  ),

  pathCase(
    'handles a message without an id not at all where one is required',
    [],
    async (scene) => {
      const items = scene.items()
      const connection = await scene.connect()
      await connection.declare({ name: items.name, groups: ['a', 'b'] })
      const listener = await connection.listen(items.name, { group: 'b' })
      const database = memoryDatabase()
      const { dead, on } = deadLetters()
      await scene.consumer<MemoryTransaction>(items, {
        on,
        inbox: memoryInbox({ database }),
        handler: (item, { tx }) => tx.add('effects', item),
      })
      const body = JSON.stringify({ key: 'k', n: 0 })
      await connection.confirmed([draft(items.name, { id: null, body })])
      await scene.eventually(
        () => 'the message did not come to the other group',
        () => listener.received.length === 1,
      )
      await scene.eventually(
        () => 'neither handled nor dead-lettered',
        () => dead.length + database.rows('effects').length > 0,
      )
      // Some brokers give every message an identity of its own.
      const named = listener.received[0]!.envelope.id !== null
      assert.equal(database.rows('effects').length, named ? 1 : 0)
      assert.deepEqual(
        dead.map(({ reason }) => reason),
        named ? [] : ['no-id'],
      )
    },
  ),

  pathCase('publishes what a handler publishes before it acknowledges', [], async (scene) => {
    const items = scene.items()
    const followUps = scene.items()
    const witness = new Witness(scene.clock)
    const log = new HandlerLog()
    await scene.consumer(followUps, { handler: (item) => log.ended.push(item) })
    const publisher = await scene.publisher(items)
    await scene.consumer(items, {
      witness,
      topics: { ...scene.settings(items), ...scene.settings(followUps) },
      handler: async (item, context) => {
        await context.publish(followUps, { ...item, key: 'follow-up' })
        if (context.attempt === 1) throw new Error('the first try publishes nothing')
      },
    })
    const { id } = await publisher.publish(items, { key: 'k', n: 0 })
    await scene.eventually(
      () => 'the message was not acknowledged',
      () => witness.find({ what: 'ack', id }) >= 0,
    )
    const stored = witness.find({ what: 'confirmed', kind: 'topic' })
    assert.ok(stored >= 0 && stored < witness.find({ what: 'ack', id }))
    await scene.eventually(
      () => 'the follow-up was not handled',
      () => log.ended.length > 0,
    )
    await scene.quiet('more than one follow-up', () => log.ended.length)
    assert.deepEqual(log.ended, [{ key: 'follow-up', n: 0 }])
  }),
]
