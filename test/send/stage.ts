import type { Capabilities } from '../../src/contract/capabilities.ts'
import { noCrashes } from '../../src/contract/crash-points.ts'
import type { EventType, HoldfastEvent } from '../../src/contract/events.ts'
import { NO_HEADERS, type Destination } from '../../src/contract/message.ts'
import { Emitter } from '../../src/observe/emitter.ts'
import { constant } from '../../src/policy/backoff.ts'
import { Dispatcher, type DispatcherOptions, type Sent } from '../../src/send/deliver.ts'
import type { SealedEnvelope } from '../../src/send/seal.ts'
import { Session } from '../../src/send/session.ts'
import { ScriptedBroker, type Answer } from '../support/scripted-broker.ts'
import { seededRandom } from '../support/seeded-random.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

type Given = Partial<DispatcherOptions<Sent>> & {
  readonly capabilities?: Partial<Capabilities>
  readonly answer?: Answer
  readonly seed?: number
}

/** A dispatcher on a scripted broker, in virtual time. Retries wait 100 ms unless a test says otherwise. */
export class Stage {
  readonly clock: VirtualClock = new VirtualClock()
  readonly events: HoldfastEvent[] = []
  readonly broker: ScriptedBroker
  readonly session: Session
  readonly dispatcher: Dispatcher<Sent>

  constructor({ capabilities, answer, seed = 1, ...given }: Given = {}) {
    const { clock } = this
    this.broker = new ScriptedBroker(clock, capabilities, answer)
    const random = seededRandom(seed)
    const { emit } = new Emitter((event) => this.events.push(event))
    this.session = Session.join(this.broker, { clock, random, crash: noCrashes, emit })
    this.dispatcher = new Dispatcher<Sent>({
      session: this.session,
      purpose: 'publish',
      result: (_envelope, sent) => sent,
      clock,
      random,
      emit,
      retry: { attempts: Infinity, backoff: constant(100) },
      ...given,
    })
  }

  /** Sends and lets everything happen that needs no time. */
  async send(
    id: string,
    { key = null, to = 'orders', ...options }: SendGiven = {},
  ): Promise<{ readonly ended: Ended; readonly outcome: Promise<Sent> }> {
    const outcome = this.dispatcher.send(envelope(id, key, to, options), {
      deadline: options.deadline,
      signal: options.signal,
    })
    const ended = new Ended(outcome, () => this.clock.now())
    await this.clock.settle()
    return { ended, outcome }
  }

  of<Type extends EventType>(type: Type): Extract<HoldfastEvent, { type: Type }>[] {
    return this.events.filter(
      (event): event is Extract<HoldfastEvent, { type: Type }> => event.type === type,
    )
  }

  /** Closes everything; what is armed then was leaked. */
  async leakedTimers(): Promise<number> {
    await this.clock.run(this.dispatcher.close(this.clock.now() + 1_000))
    await this.clock.run(this.session.leave(this.clock.now() + 1_000))
    await this.clock.settle()
    return this.clock.timers
  }
}

interface SendGiven {
  readonly key?: string | null
  readonly to?: string | Destination
  readonly deadline?: number
  readonly signal?: AbortSignal
  readonly body?: Uint8Array
  readonly deliverAtMs?: number
}

/** How and when a send ended; 'open' as long as it has not. */
export class Ended {
  status = 'open'
  sent: Sent | null = null
  error: (Error & { code?: string; attempts?: number }) | null = null
  atMs: number = Number.NaN

  get facts(): { readonly attempts?: number; readonly possiblyDuplicated?: boolean } {
    return this.sent ?? this.error ?? {}
  }

  constructor(outcome: Promise<Sent>, now: () => number) {
    outcome.then(
      (sent) => {
        this.status = 'confirmed'
        this.sent = sent
        this.atMs = now()
      },
      (error: Error & { code?: string }) => {
        this.status = `${error.name} ${error.code}`
        this.error = error
        this.atMs = now()
      },
    )
  }
}

/** An envelope with the id as its body. */
export function envelope(
  id: string,
  key: string | null = null,
  to: string | Destination = 'orders',
  given: Partial<SealedEnvelope> = {},
): SealedEnvelope {
  return {
    id,
    type: 'orders',
    producer: 'test',
    to: typeof to === 'string' ? { kind: 'topic', topic: to } : to,
    key: key === null ? null : Buffer.from(key),
    orderKey: key,
    body: given.body ?? Buffer.from(JSON.stringify(id)),
    headers: NO_HEADERS,
    contentType: 'application/json',
    timeMs: 0,
    deliverAtMs: given.deliverAtMs ?? null,
  }
}
