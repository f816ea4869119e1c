import { DelayLine } from './delay-line.ts'
import { putError } from './kafka-answers.ts'
import { FrameReader } from './kafka-frames.ts'
import { readRequest, type Request } from './kafka-requests.ts'
import type { KafkaRule, KafkaRules } from './kafka-rules.ts'
import type { Session, Way } from './link.ts'
import type { Direction } from './rules.ts'

/** A request that the broker has not answered yet, and the rule that struck it. */
interface Open {
  readonly request: Request
  readonly rule: KafkaRule | null
}

/** Reads both directions of one Kafka connection, and applies the rules to its requests. */
export class KafkaSession implements Session {
  readonly #way: Way
  readonly #rules: KafkaRules
  readonly #readers = { up: new FrameReader(), down: new FrameReader() }
  readonly #lines: Readonly<Record<Direction, DelayLine>>
  readonly #open = new Map<number, Open>()
  readonly #held: { readonly rule: KafkaRule; readonly frame: Buffer }[] = []
  #clientId: string | null = null

  constructor(way: Way, rules: KafkaRules) {
    this.#way = way
    this.#rules = rules
    this.#lines = {
      up: new DelayLine((bytes) => way.out('up', bytes)),
      down: new DelayLine((bytes) => way.out('down', bytes)),
    }
  }

  /** What the client calls itself; null before its first request. */
  get clientId(): string | null {
    return this.#clientId
  }

  take(direction: Direction, chunk: Buffer): void {
    for (const frame of this.#readers[direction].push(chunk)) {
      if (direction === 'up') this.#asked(frame)
      else this.#answered(frame)
    }
  }

  /** Answers that were held for this rule go to the client now. */
  release(rule: KafkaRule): void {
    for (const one of this.#held.splice(0)) {
      if (one.rule === rule) this.#lines.down.write(one.frame)
      else this.#held.push(one)
    }
  }

  stop(): void {
    this.#lines.up.stop()
    this.#lines.down.stop()
    this.#held.length = 0
  }

  #asked(frame: Buffer): void {
    const request = readRequest(frame)
    this.#clientId = request.clientId
    const rule = this.#rules.first(request)
    if (rule?.action.do === 'drop') return
    if (rule?.action.do === 'reset') return this.#way.reset()
    if (rule?.action.do === 'delay') this.#lines.up.delay(rule.action.ms)
    this.#open.set(request.correlationId, { request, rule })
    this.#lines.up.write(frame)
  }

  #answered(frame: Buffer): void {
    const correlationId = frame.readInt32BE(4)
    const { request, rule } = this.#open.get(correlationId) ?? { request: null, rule: null }
    this.#open.delete(correlationId)
    if (rule === null) return this.#lines.down.write(frame)
    const { action } = rule
    if (action.do === 'lose-answer') return
    if (action.do === 'reset-answer') return this.#way.reset()
    if (action.do === 'hold-answer') return void this.#held.push({ rule, frame })
    if (action.do === 'delay-answer') this.#lines.down.delay(action.ms)
    if (action.do === 'answer-error') {
      putError(request, frame, action.code, action.topics ?? (() => true))
    }
    this.#lines.down.write(frame)
  }
}
