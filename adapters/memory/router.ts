import type { SendOutcome } from '../../src/contract/broker.ts'
import { CONFIRMED } from '../../src/contract/broker.ts'
import type { Destination, Envelope } from '../../src/contract/message.ts'
import { SENT_TO_GROUP } from './queue.ts'
import type { Group } from './group.ts'
import { refused, tooLarge, unroutable } from './refusals.ts'
import type { MemoryServer } from './server.ts'
import type { TopicLog } from './topic-log.ts'
import { toWire } from './wire-headers.ts'

type ToGroup = Extract<Destination, { kind: 'group' }>

/** Stores envelopes where they go, or says why not. */
export class Router {
  readonly #server: MemoryServer
  readonly #carriesAll: boolean
  #last: TopicLog | null = null

  constructor(server: MemoryServer) {
    this.#server = server
    const { duplicate, binary, null: none } = server.capabilities.headers
    this.#carriesAll = duplicate && binary && none
  }

  /** Stores it in every queue it has to reach, or in none. */
  store(envelope: Envelope): SendOutcome {
    return this.check(envelope) ?? this.#put(envelope)
  }

  /** Why the envelope cannot be stored; null when it can. */
  check(envelope: Envelope): SendOutcome | null {
    const { to } = envelope
    if (to.kind === 'reply') return unroutable(envelope, 'this broker keeps no reply addresses')
    const topic = this.#topicOf(to.topic)
    if (topic === undefined) return unroutable(envelope, 'the topic is not declared')
    const unfit = this.#unfit(envelope, to.topic)
    if (unfit !== null) return unfit
    if (to.kind === 'topic') return this.#checkGroups(envelope, topic)
    const group = topic.group(to.group)
    if (group === undefined) return unroutable(envelope, 'the group is not declared')
    return to.kind === 'dead' ? this.#checkDead(envelope, group) : this.#checkRetry(envelope, group)
  }

  #topicOf(name: string): TopicLog | undefined {
    if (this.#last?.name === name && !this.#last.deleted) return this.#last
    const topic = this.#server.topics.get(name)
    this.#last = topic ?? null
    return topic
  }

  #unfit(envelope: Envelope, topic: string): SendOutcome | null {
    const { capabilities } = this.#server
    const bytes = envelope.body?.length ?? 0
    const { maxBodyBytes } = capabilities.limits(topic)
    if (bytes > maxBodyBytes) return tooLarge(envelope, bytes, maxBodyBytes)
    if (envelope.body === null && !capabilities.tombstones) {
      return refused(envelope, 'capability', 'tombstones are switched off: send an empty body')
    }
    return envelope.deliverAtMs === null ? null : this.#checkSchedule(envelope)
  }

  #checkSchedule(envelope: Envelope): SendOutcome | null {
    const { scheduledSend } = this.#server.capabilities
    const delayMs = this.#untilDue(envelope)
    if (delayMs <= (scheduledSend?.maxDelayMs ?? 0)) return null
    const most = scheduledSend === null ? 'not at all' : `by ${scheduledSend.maxDelayMs} ms at most`
    return refused(envelope, 'capability', `${delayMs} ms early, which can be scheduled ${most}`)
  }

  #checkGroups(envelope: Envelope, topic: TopicLog): SendOutcome | null {
    if (topic.groups.length === 0 && !topic.storesNothing) {
      return unroutable(envelope, 'it has no group; declare it with `groups: []` to store nothing')
    }
    for (const group of topic.groups) {
      if (group.waiting >= this.#server.settings.maxDepth) return this.#full(envelope, group)
    }
    return null
  }

  #checkDead(envelope: Envelope, group: Group): SendOutcome | null {
    return group.dead.length < this.#server.settings.maxDepth ? null : this.#full(envelope, group)
  }

  #checkRetry(envelope: Envelope, group: Group): SendOutcome | null {
    if (group.waiting >= this.#server.settings.maxDepth) return this.#full(envelope, group)
    const { delayMs } = envelope.to as ToGroup
    const { retryDelay } = this.#server.capabilities
    if (delayMs <= 0 || retryDelay === 'native') return null
    if (retryDelay === 'levels' && group.levels.has(delayMs)) return null
    const levels = [...group.levels].sort((a, b) => a - b).join(', ') || 'none'
    return unroutable(envelope, `no retry level of ${delayMs} ms is declared; there are: ${levels}`)
  }

  #full(envelope: Envelope, group: Group): SendOutcome {
    const { maxDepth } = this.#server.settings
    const why = `group "${group.name}" has ${maxDepth} messages waiting, as many as maxDepth allows`
    return refused(envelope, 'rejected', why, true)
  }

  #put(envelope: Envelope): SendOutcome {
    const { to } = envelope
    const wire = this.#carriesAll ? envelope : toWire(envelope, this.#server.capabilities.headers)
    if (to.kind === 'topic') return this.#putToTopic(wire, envelope, to.topic)
    const { topic, group } = to as ToGroup
    const target = this.#topicOf(topic)?.group(group) as Group
    if (to.kind === 'dead') target.dead.push(wire)
    else this.#putToGroup(wire, target, to as ToGroup)
    return CONFIRMED
  }

  #putToTopic(wire: Envelope, envelope: Envelope, name: string): SendOutcome {
    const topic = this.#topicOf(name) as TopicLog
    const { groups } = topic
    topic.record(envelope, wire)
    const delayMs = envelope.deliverAtMs === null ? 0 : this.#untilDue(envelope)
    if (groups.length === 0) return CONFIRMED
    if (delayMs <= 0) return topic.append(wire, groups)
    for (const group of groups) group.delay(0, 1)
    this.#server.later(delayMs, () => {
      for (const group of groups) group.delay(0, -1)
      topic.append(wire, groups)
    })
    return CONFIRMED
  }

  /** The copy goes on as a message of its topic, known to have been in hands before. */
  #putToGroup(wire: Envelope, group: Group, { topic, delayMs }: ToGroup): void {
    const copy: Envelope = { ...wire, to: { kind: 'topic', topic }, native: SENT_TO_GROUP }
    const waitMs = Math.max(delayMs, wire.deliverAtMs === null ? 0 : this.#untilDue(wire))
    if (waitMs <= 0) return group.append(group.partitionFor(copy.key), copy)
    group.delay(delayMs, 1)
    this.#server.later(waitMs, () => {
      group.delay(delayMs, -1)
      group.append(group.partitionFor(copy.key), copy)
    })
  }

  #untilDue({ deliverAtMs }: Envelope): number {
    return (deliverAtMs as number) - this.#server.clock.wallMs()
  }
}
