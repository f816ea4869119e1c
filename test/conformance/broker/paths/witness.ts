import type { Broker, Delivery, Report, Sender } from '../../../../src/contract/broker.ts'
import type { Clock } from '../../../../src/contract/clock.ts'
import { OutcomeUnknownError, PublishRefusedError } from '../../../../src/contract/errors.ts'
import type { Destination, Envelope } from '../../../../src/contract/message.ts'
import { overlaid } from '../../overlay.ts'
import { text } from '../envelopes.ts'

/** What the core did to the broker, or the broker told the core. */
export interface Step {
  readonly what:
    | 'sent'
    | 'confirmed'
    | 'refused'
    | 'unknown'
    | 'delivered'
    | 'effect'
    | 'ack'
    | 'release'
    | 'retry'
  /** Where to, of sends. */
  readonly kind: Destination['kind'] | null
  readonly id: string | null
  readonly body: string
  readonly attempt: number
}

/** What becomes of an envelope: stored with the word about it lost, or not sent at all. */
export type Mischief = 'lose' | 'refuse'

/**
 * Stands between the core and a broker: writes down the order of what happens, and loses or refuses
 * envelopes on demand, on every broker alike. It keeps the contract while it does.
 */
export class Witness {
  readonly steps: Step[] = []
  /** Keys of which the core handed over a second envelope too early; see `keyRunsInOneSend`. */
  readonly overtaken: string[] = []
  readonly #clock: Clock
  readonly #unresolved = new Set<string>()
  readonly #rules: {
    readonly match: (envelope: Envelope) => boolean
    how: Mischief
    left: number
  }[] = []

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** The next `times` envelopes that match come to grief. */
  mislead(how: Mischief, match: (envelope: Envelope) => boolean, times = 1): void {
    this.#rules.push({ match, how, left: times })
  }

  /** A handler says that its effect is made. */
  effect(id: string | null): void {
    this.steps.push({ what: 'effect', kind: null, id, body: '', attempt: 0 })
  }

  /** Position of the first step like this, -1 when there is none. */
  find(like: Partial<Step>, from = 0): number {
    const facts = Object.entries(like) as [keyof Step, unknown][]
    return this.steps.findIndex(
      (step, index) => index >= from && facts.every(([name, value]) => step[name] === value),
    )
  }

  count(like: Partial<Step>): number {
    const facts = Object.entries(like) as [keyof Step, unknown][]
    return this.steps.filter((step) => facts.every(([name, value]) => step[name] === value)).length
  }

  /** The broker as the core is to get it. */
  around(broker: Broker): Broker {
    let runs = false
    return overlaid<Broker>(broker, {
      open: async (context) => {
        const capabilities = await broker.open(context)
        runs = capabilities.keyRunsInOneSend
        return capabilities
      },
      sender: (purpose) => this.#sender(broker.sender(purpose), () => runs),
      receive: (subscription, sink) =>
        broker.receive(
          subscription,
          overlaid(sink, {
            deliver: (source, batch) =>
              sink.deliver(
                source,
                batch.map((one) => this.#delivery(one)),
              ),
          }),
        ),
    })
  }

  #sender(sender: Sender, runs: () => boolean): Sender {
    return overlaid<Sender>(sender, {
      send: (batch, deadline, report) => {
        const plan = this.#plan(batch, runs())
        if (!runs()) this.#watchKeys(batch)
        for (const envelope of batch) this.#note('sent', envelope)
        const passed = plan.flatMap(({ through }, index) => (through ? [index] : []))
        const tell = this.#telling(batch, plan, report)
        if (passed.length > 0) {
          sender.send(
            passed.map((index) => batch[index]!),
            deadline,
            (from, to, outcome) => {
              for (let at = from; at < to; at++) tell(passed[at]!, outcome)
            },
          )
        }
        this.#clock.defer(() => {
          plan.forEach(({ through }, index) => !through && tell(index, null))
        })
      },
    })
  }

  /** What is to happen to each envelope; behind a misled one of a key, the rest of the key is held back. */
  #plan(batch: readonly Envelope[], runs: boolean): readonly Plan[] {
    const misled = new Set<string>()
    return batch.map((envelope) => {
      const key = runs ? envelope.orderKey : null
      if (key !== null && misled.has(key)) return { through: false, code: 'predecessor' }
      const rule = this.#rules.find(({ match, left }) => left > 0 && match(envelope))
      if (rule === undefined) return { through: true, code: null }
      rule.left--
      if (key !== null) misled.add(key)
      return rule.how === 'lose'
        ? { through: true, code: 'connection-lost' }
        : { through: false, code: 'unavailable' }
    })
  }

  /** Where the broker keeps no runs together, a key may have one unresolved envelope at most. */
  #watchKeys(batch: readonly Envelope[]): void {
    for (const envelope of batch) {
      if (envelope.orderKey === null) continue
      const name = lane(envelope)
      if (this.#unresolved.has(name)) this.overtaken.push(envelope.orderKey)
      this.#unresolved.add(name)
    }
  }

  #telling(
    batch: readonly Envelope[],
    plan: readonly Plan[],
    report: Report,
  ): (index: number, outcome: Parameters<Report>[2] | null) => void {
    return (index, outcome) => {
      const { code } = plan[index]!
      const told = code === null ? outcome! : broken(code)
      this.#unresolved.delete(lane(batch[index]!))
      this.#note(told.status, batch[index]!)
      report(index, index + 1, told)
    }
  }

  #delivery(delivery: Delivery): Delivery {
    const { envelope, attempt } = delivery
    const body = text(envelope)
    const note = (what: Step['what']): void =>
      void this.steps.push({ what, kind: null, id: envelope.id, body, attempt })
    note('delivered')
    const settling = {
      ack: () => {
        note('ack')
        delivery.ack()
      },
      release: () => {
        note('release')
        delivery.release()
      },
    }
    if (delivery.retry === undefined) return overlaid(delivery, settling)
    const retry = (ms: number): boolean => {
      const waits = delivery.retry?.(ms) ?? false
      if (waits) note('retry')
      return waits
    }
    return overlaid(delivery, { ...settling, retry })
  }

  #note(what: Step['what'], envelope: Envelope): void {
    const { id, to } = envelope
    this.steps.push({ what, kind: to.kind, id, body: text(envelope), attempt: 0 })
  }
}

interface Plan {
  readonly through: boolean
  readonly code: 'connection-lost' | 'unavailable' | 'predecessor' | null
}

function lane({ to, orderKey }: Envelope): string {
  return JSON.stringify([to, orderKey])
}

function broken(code: NonNullable<Plan['code']>): Parameters<Report>[2] {
  const why = 'the witness was told to do this'
  if (code === 'connection-lost') {
    return { status: 'unknown', error: new OutcomeUnknownError(code, why) }
  }
  return { status: 'refused', error: new PublishRefusedError(code, why, { retryable: true }) }
}
