import { describe, expect, it } from 'vitest'

import type { ConsumerCallbacks } from '../../../adapters/kafka/driver.ts'
import type { GroupLink, Joined } from '../../../adapters/kafka/group-link.ts'
import { encodeAssignment } from '../../../adapters/kafka/group-protocol.ts'
import { GroupConsumer } from '../../../adapters/kafka/group-consumer.ts'
import { seededRandom } from '../../support/seeded-random.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'
import { specOf } from './test-member.ts'

const part = { topic: 'orders', partition: 0 }

/** A coordinator on whose connection everything waits behind a join. */
class Coordinator implements Partial<GroupLink> {
  readonly asked: string[] = []
  beat: () => Promise<void> = () => Promise.resolve()
  letIn: () => Promise<void> = () => Promise.resolve()
  #generation = 0

  async open(): Promise<void> {}

  async close(): Promise<void> {}

  async leave(): Promise<void> {}

  async join(): Promise<Joined> {
    await this.letIn()
    const member = { id: 'm1', generation: ++this.#generation }
    return { member, isLeader: false, protocol: 'holdfast', members: [] }
  }

  async sync(): Promise<Buffer> {
    return encodeAssignment([part])
  }

  heartbeat(): Promise<void> {
    return this.beat()
  }

  async commit(): Promise<void> {
    this.asked.push('commit')
  }

  async committed(): Promise<[]> {
    this.asked.push('committed')
    return []
  }

  leadersOf(): null {
    return null
  }

  async refresh(): Promise<void> {}
}

class Stage {
  readonly clock: VirtualClock = new VirtualClock()
  readonly coordinator: Coordinator = new Coordinator()
  readonly consumer: GroupConsumer
  epoch = 0

  constructor() {
    const callbacks: Partial<ConsumerCallbacks> = {
      assigned: (epoch) => (this.epoch = epoch),
      revoking: () => Promise.resolve(),
      lost: () => undefined,
    }
    this.consumer = new GroupConsumer(
      this.coordinator as unknown as GroupLink,
      {
        clock: this.clock,
        random: seededRandom(1),
        emit: Object.assign(() => undefined, { wants: () => false }),
        decompress: async (_, bytes) => bytes,
        requestTimeoutMs: 2_000,
        lookMs: 60_000,
      },
      specOf(['orders']),
      callbacks as ConsumerCallbacks,
    )
  }

  /** A member whose group is being divided anew. */
  async joining(): Promise<() => Promise<void>> {
    const { clock, coordinator, consumer } = this
    await clock.run(consumer.opened(clock.now() + 5_000))
    let open = (): void => undefined
    const opened = new Promise<void>((resolve) => (open = resolve))
    coordinator.letIn = () => opened
    coordinator.beat = () => Promise.reject(Object.assign(new Error('REBALANCE'), { code: 27 }))
    await clock.advance(1_000)
    coordinator.beat = () => Promise.resolve()
    return async () => {
      open()
      await clock.settle()
    }
  }

  get soon(): number {
    return this.clock.now() + 1_000
  }
}

describe('while a group is being divided anew', () => {
  it('nothing is asked that would wait behind the join, and everything afterwards', async () => {
    const stage = new Stage()
    const letIn = await stage.joining()
    const { consumer, coordinator, epoch } = stage
    const offsets = [{ ...part, offset: 1n, metadata: null }]
    const refusal = { code: 'unavailable' }
    await expect(consumer.commit(epoch, offsets, stage.soon)).rejects.toMatchObject(refusal)
    await expect(consumer.committed([part], stage.soon)).rejects.toMatchObject(refusal)
    expect(coordinator.asked).toEqual([])
    await letIn()
    expect(stage.epoch).toBe(epoch + 1)
    await consumer.commit(stage.epoch, offsets, stage.soon)
    await consumer.committed([part], stage.soon)
    expect(coordinator.asked).toEqual(['commit', 'committed'])
    await stage.clock.run(consumer.close(stage.soon))
  })
})
