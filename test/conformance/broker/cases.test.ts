import { describe, expect, it } from 'vitest'

import type { CapabilitySwitches } from '../../../adapters/memory/index.ts'
import { memory } from '../../../adapters/memory/index.ts'
import {
  CONFIRMED,
  type Broker,
  type Delivery,
  type DeliverySink,
  type Receiver,
  type Report,
  type Sender,
  type SendOutcome,
} from '../../../src/contract/broker.ts'
import {
  HoldfastError,
  OutcomeUnknownError,
  PublishRefusedError,
} from '../../../src/contract/errors.ts'
import type { Envelope } from '../../../src/contract/message.ts'
import { inParallel } from '../case.ts'
import { overlaid as like } from '../overlay.ts'
import { contractCases } from './cases.ts'
import type { BrokerHarness } from './harness.ts'

type Break = (broker: Broker) => Partial<Broker>

function sending(change: (sender: Sender) => Partial<Sender>): Break {
  return (broker) => ({
    sender: (purpose) => {
      const sender = broker.sender(purpose)
      return like(sender, change(sender))
    },
  })
}

/** Every envelope is changed before it is sent. */
function envelopes(change: (envelope: Envelope) => Envelope): Break {
  return sending((sender) => ({
    send: (batch, deadline, report) => sender.send(batch.map(change), deadline, report),
  }))
}

/** Every outcome is changed before it is reported. */
function outcomes(change: (outcome: SendOutcome) => SendOutcome): Break {
  return sending((sender) => ({
    send: (batch, deadline, report) =>
      sender.send(batch, deadline, (from, to, outcome) => report(from, to, change(outcome))),
  }))
}

function receiving(
  sinkLike: (sink: DeliverySink) => Partial<DeliverySink>,
  receiverLike: (receiver: Receiver) => Partial<Receiver> = () => ({}),
): Break {
  return (broker) => ({
    receive: async (subscription, sink) => {
      const receiver = await broker.receive(subscription, like(sink, sinkLike(sink)))
      return like(receiver, receiverLike(receiver))
    },
  })
}

/** Every delivery is changed before it is handed over. */
function deliveries(change: (delivery: Delivery) => Partial<Delivery>): Break {
  return receiving((sink) => ({
    deliver: (source, batch) =>
      sink.deliver(
        source,
        batch.map((one) => like(one, change(one))),
      ),
  }))
}

/** Settles that count whoever makes them: those of the present holder. */
function settledByAnybody(): Break {
  const latest = new Map<string | null, Delivery>()
  return deliveries((one) => {
    const { id } = one.envelope
    latest.set(id, one)
    return { ack: () => latest.get(id)?.ack() }
  })
}

/** Deliveries leased one by one, by a broker that would leave them to their holder for ever. */
function leased(leaseMs: number, extended: (ms: number) => number): Break {
  return deliveries((one) => {
    let isOurs = true
    const lapse = (): void => {
      isOurs = false
      one.release()
    }
    let timer = setTimeout(lapse, leaseMs)
    const settle = (how: () => void) => (): void => {
      clearTimeout(timer)
      if (isOurs) how()
    }
    return {
      ack: settle(() => one.ack()),
      release: settle(() => one.release()),
      extend: (ms) => {
        clearTimeout(timer)
        timer = setTimeout(lapse, extended(ms))
      },
    }
  })
}

const refused = (code: 'not-sent' | 'unroutable' | 'rejected'): SendOutcome => ({
  status: 'refused',
  error: new PublishRefusedError(code, 'broken'),
})

/** A harness around a memory broker; with `patience` low, since what is missing has to time out. */
function harness(broken: Break, capabilities: CapabilitySwitches = {}): BrokerHarness {
  const store = memory({ capabilities })
  const { faults } = store
  return {
    name: 'broken',
    patience: 0.08,
    shortRetryMs: 30,
    asksBack: true,
    connect: () => {
      const connection = memory({ sameAs: store })
      return like<Broker>(connection, broken(connection))
    },
    faults: {
      restart: () => faults.restart(),
      stall: (topic) => {
        const fault = faults.stall(topic)
        return () => fault.end()
      },
      neverWrite: (topic) => {
        const fault = faults.holdBack(topic)
        return () => fault.end()
      },
      loseConfirm: (topic, times) => {
        faults.loseConfirms({ times, match: ({ to }) => to.kind === 'topic' && to.topic === topic })
      },
      loseSource: (topic, group) => void faults.loseSources({ topic, group }),
      deleteDestination: (topic, group) => faults.deleteDestination(topic, group),
    },
  }
}

const levels: CapabilitySwitches = { retryDelay: 'levels', attemptCount: 'header' }

/** What is broken, the case that has to notice, and how. */
const broken: readonly (readonly [
  what: string,
  noticedBy: string,
  how: Break,
  capabilities?: CapabilitySwitches,
])[] = [
  [
    'reports before send() returns',
    'reports every envelope once',
    sending((sender) => ({
      send: (batch, deadline, report) => {
        report(0, batch.length, CONFIRMED)
        sender.send(batch, deadline, () => undefined)
      },
    })),
  ],
  [
    'reports twice',
    'reports every envelope once',
    sending((sender) => ({
      send: (batch, deadline, report) =>
        sender.send(batch, deadline, (from, to, outcome) => {
          report(from, to, outcome)
          report(from, to, outcome)
        }),
    })),
  ],
  [
    'reports beyond the batch',
    'reports every envelope once',
    sending((sender) => ({
      send: (batch, deadline, report) =>
        sender.send(batch, deadline, (from, to, outcome) => report(from, to + 1, outcome)),
    })),
  ],
  [
    'forgets to report at close()',
    'answers for everything before close()',
    sending(() => ({ send: () => undefined, close: () => Promise.resolve() })),
  ],
  [
    'confirms what it does not store',
    'moves 10 000 messages',
    sending((sender) => ({
      send: (batch, deadline, report) => {
        const kept = batch.filter((_, index) => index !== 250)
        sender.send(kept, deadline, shifted(report, batch.length - kept.length, kept.length))
      },
    })),
  ],
  ['gives every message a new id', 'carries id, type', envelopes((one) => ({ ...one, id: 'new' }))],
  [
    'drops duplicate headers',
    'keeps headers',
    envelopes((one) => ({
      ...one,
      headers: [...new Map(one.headers.map((h) => [h[0], h])).values()],
    })),
  ],
  [
    'turns bytes in headers into text',
    'keeps headers',
    envelopes((one) => ({
      ...one,
      headers: one.headers.map(([name, value]) => [name, value === null ? null : String(value)]),
    })),
  ],
  [
    'turns a tombstone into an empty body',
    'keeps a body: a tombstone',
    envelopes((one) => ({ ...one, body: one.body ?? new Uint8Array(0) })),
  ],
  [
    'turns an empty key into none',
    'tells apart no key',
    envelopes((one) => ({ ...one, key: one.key?.length === 0 ? null : one.key })),
  ],
  [
    'cuts large bodies',
    'keeps a body of 1 MiB',
    envelopes((one) => ({ ...one, body: one.body && one.body.subarray(0, 65_536) })),
  ],
  [
    'delivers everything twice',
    'gives each message to every group once',
    receiving((sink) => ({
      deliver: (source, batch) =>
        sink.deliver(
          source,
          batch.flatMap((one) => [one, one]),
        ),
    })),
  ],
  [
    'sends to all groups what is for one',
    'reaches one group alone',
    envelopes((one) =>
      one.to.kind === 'group' ? { ...one, to: { kind: 'topic', topic: one.to.topic } } : one,
    ),
  ],
  [
    'confirms what reached nobody',
    'refuses what reaches no destination',
    outcomes((outcome) => (outcome.status === 'refused' ? CONFIRMED : outcome)),
  ],
  [
    'refuses the neighbours of what is too large',
    'refuses what is too large',
    sending((sender) => ({
      send: (batch, deadline, report) => {
        const limit = 16_777_216
        if (batch.every(({ body }) => (body?.length ?? 0) <= limit)) {
          sender.send(batch, deadline, report)
        } else queueMicrotask(() => report(0, batch.length, refused('rejected')))
      },
    })),
  ],
  [
    'calls what was never written unknown',
    'refuses what was never written',
    outcomes((outcome) =>
      outcome.status === 'refused'
        ? { status: 'unknown', error: new OutcomeUnknownError('timeout', 'broken') }
        : outcome,
    ),
  ],
  [
    'calls what may be stored refused',
    'calls it unknown when the word',
    outcomes((outcome) => (outcome.status === 'unknown' ? refused('not-sent') : outcome)),
  ],
  [
    'reports a batch when its last outcome is there',
    'does not let one stalled destination',
    sending((sender) => ({
      send: (batch, deadline, report) => {
        const kept: Parameters<Report>[] = []
        let open = batch.length
        sender.send(batch, deadline, (...report1) => {
          kept.push(report1)
          open -= report1[1] - report1[0]
          if (open === 0) for (const one of kept) report(...one)
        })
      },
    })),
  ],
  [
    'writes the envelopes of a key although one before failed',
    'stores nothing of a key behind one that failed',
    sending((sender) => ({
      send: (batch, deadline, report) =>
        batch.forEach((one, index) =>
          sender.send([one], deadline, (_, __, outcome) => report(index, index + 1, outcome)),
        ),
    })),
  ],
  [
    'lets a later send overtake',
    'never stores the later of two overlapping sends',
    sending((sender) => {
      let count = 0
      return {
        send: (batch, deadline, report) => {
          if (count++ % 5 > 0) sender.send(batch, deadline, report)
          else setTimeout(() => sender.send(batch, deadline, report), 5)
        },
      }
    }),
  ],
  [
    'delivers a batch backwards',
    'delivers the messages of each key in order',
    receiving((sink) => ({ deliver: (source, batch) => sink.deliver(source, batch.toReversed()) })),
  ],
  [
    'orders nothing across consumers',
    'never lets two consumers hold one key',
    (broker) => ({
      receive: (subscription, sink) => broker.receive({ ...subscription, ordering: 'none' }, sink),
      provision: ({ topics }, mode) =>
        broker.provision(
          { topics: topics.map((one) => ({ ...one, partitions: null, ordering: 'none' })) },
          mode,
        ),
    }),
  ],
  [
    'loses acks',
    'does not hand out again what was acknowledged',
    deliveries(() => ({ ack: () => undefined })),
  ],
  [
    'acknowledges what is released',
    'hands out again what was released',
    deliveries((one) => ({ release: () => one.ack() })),
  ],
  [
    'counts a release as an attempt',
    'hands out again what was released',
    deliveries((one) => ({ attempt: one.attempt + (one.redelivered === 'no' ? 0 : 1) })),
  ],
  [
    'never says that a delivery may be a second one',
    'hands out again what was not settled',
    deliveries(() => ({ redelivered: 'no' })),
  ],
  [
    'acknowledges at once',
    'hands out again what was not settled',
    receiving((sink) => ({
      deliver: (source, batch) => {
        sink.deliver(source, batch)
        for (const one of batch) one.ack()
      },
    })),
  ],
  [
    'lets the last settling count',
    'lets the first settling count: release, then ack',
    deliveries((one) => ({ release: () => void setTimeout(() => one.release(), 20) })),
  ],
  [
    'delivers a retry early',
    'never delivers a retry early',
    deliveries((one) => ({ retry: (ms) => one.retry?.(ms / 2) ?? false })),
  ],
  ['does not count retries', 'counts attempts from 1', deliveries(() => ({ attempt: 1 }))],
  [
    'loses what waits for a retry',
    'does not lose a retry',
    sending((sender) => ({
      send: (batch, deadline, report) => {
        const [to] = batch.map((one) => one.to)
        if (to?.kind === 'group') queueMicrotask(() => report(0, batch.length, CONFIRMED))
        else sender.send(batch, deadline, report)
      },
    })),
    levels,
  ],
  [
    'ignores retry levels that are not configured',
    'delivers from a retry level that is no longer configured',
    sending((sender) => ({
      send: (batch, deadline, report) =>
        sender.send(
          batch.map((one) =>
            one.to.kind === 'group' && one.to.delayMs > 0
              ? { ...one, to: { ...one.to, kind: 'dead' as const } }
              : one,
          ),
          deadline,
          report,
        ),
    })),
    levels,
  ],
  [
    'ignores the header that counts attempts',
    'reads the attempts made from the header',
    deliveries(() => ({ attempt: 1 })),
    levels,
  ],
  [
    'forgets pause()',
    'delivers nothing while paused',
    receiving(
      () => ({}),
      () => ({ pause: () => undefined }),
    ),
  ],
  [
    'pauses only what it has now',
    'remembers pause() over a loss of sources',
    (broker) => ({
      receive: async (subscription, sink) => {
        const seen = new Set<Parameters<DeliverySink['deliver']>[0]>()
        const receiver: Receiver = await broker.receive(
          subscription,
          like(sink, {
            lost: (sources) => {
              sink.lost(sources)
              receiver.resume()
            },
            deliver: (source, batch) => {
              seen.add(source)
              sink.deliver(source, batch)
            },
          }),
        )
        return receiver
      },
    }),
  ],
  [
    'pauses everything instead of one source',
    'pauses one source and leaves the others',
    receiving(
      () => ({}),
      (receiver) => ({ pause: () => receiver.pause() }),
    ),
  ],
  [
    'delivers after stop()',
    'delivers nothing after stop()',
    receiving(
      () => ({}),
      () => ({ stop: () => Promise.resolve() }),
    ),
  ],
  [
    'ignores the bound on messages',
    'stops delivering at the bound on messages',
    (broker) => ({
      receive: (subscription, sink) =>
        broker.receive(
          { ...subscription, maxHeld: { ...subscription.maxHeld, messages: 1_000 } },
          sink,
        ),
    }),
  ],
  [
    'ignores the bound on bytes',
    'stops delivering at the bound on bytes',
    (broker) => ({
      receive: (subscription, sink) =>
        broker.receive(
          { ...subscription, maxHeld: { ...subscription.maxHeld, bytes: 1_000_000_000 } },
          sink,
        ),
    }),
  ],
  [
    'does not tell of lost sources',
    'says which sources are lost',
    receiving(() => ({ lost: () => undefined })),
  ],
  [
    'says nothing about stale settles',
    'ignores settles of a lost source',
    (broker) => ({
      open: (context) =>
        broker.open({
          ...context,
          emit: Object.assign(
            (event: Parameters<typeof context.emit>[0]) => {
              if (event.type !== 'settle.stale') context.emit(event)
            },
            { wants: () => true },
          ),
        }),
    }),
  ],
  [
    "takes 'earliest' for 'now'",
    "starts a new group at 'earliest'",
    (broker) => ({
      receive: (subscription, sink) => broker.receive({ ...subscription, from: 'now' }, sink),
    }),
  ],
  [
    'does not wait for the answer when it asks for a source',
    'leaves a source to its holder',
    receiving((sink) => ({
      revoking: (sources, deadline) => {
        void sink.revoking(sources, deadline)
        return Promise.resolve()
      },
    })),
  ],
  [
    'takes sources without asking',
    'leaves a source to its holder',
    receiving(() => ({ revoking: () => Promise.resolve() })),
  ],
  [
    'lets whoever has lost a source settle what is in it',
    'ignores settles of a source that was given up',
    settledByAnybody(),
  ],
  [
    'loses what is released when it asks for a source',
    'hands over what is released',
    deliveries((one) => ({ release: () => one.ack() })),
  ],
  [
    'offers to extend what is not leased',
    'offers extend() exactly',
    deliveries(() => ({ extend: () => undefined })),
  ],
  [
    'is silent when its destination is deleted',
    'ends a receiver whose destination was deleted',
    receiving(() => ({ ended: () => undefined })),
  ],
  [
    'ends with an error when it is closed',
    'ends without an error',
    (broker) => ({
      receive: async (subscription, sink) => {
        const receiver = await broker.receive(subscription, sink)
        return like(receiver, {
          close: async (deadline) => {
            await receiver.close(deadline)
            sink.ended(new HoldfastError('destination-gone', 'broken'))
          },
        })
      },
    }),
  ],
  [
    'opens anew every time',
    'opens once',
    (broker) => ({ open: async (context) => ({ ...(await broker.open(context)) }) }),
  ],
  [
    'creates when it should only look',
    'verifies without creating',
    (broker) => ({ provision: (topology) => broker.provision(topology, 'create') }),
  ],
  [
    'tells its state only when it changes',
    'tells its state at once',
    (broker) => ({
      onState: (listener) => {
        let first = true
        return broker.onState((state) => {
          if (!first) listener(state)
          first = false
        })
      },
    }),
  ],
  [
    'delivers a scheduled message at once',
    'delivers a scheduled message when it is due',
    envelopes((one) => ({ ...one, deliverAtMs: null })),
  ],
  [
    'produces without settling',
    'settles and publishes together',
    receiving(
      () => ({}),
      (receiver) => ({
        transact: (_, produced, deadline) =>
          receiver.transact?.([], produced, deadline) ?? Promise.resolve('aborted'),
      }),
    ),
  ],
]

/** Confirms the dropped envelopes beside the kept ones. */
function shifted(report: Report, dropped: number, kept: number): Report {
  let open = kept
  return (from, to, outcome) => {
    report(from, to, outcome)
    open -= to - from
    if (open === 0 && dropped > 0) report(kept, kept + dropped, CONFIRMED)
  }
}

function caseOf(beginning: string): (typeof contractCases)[number] {
  const found = contractCases.filter(({ name }) => name.startsWith(beginning))
  expect(found.map(({ name }) => name)).toHaveLength(1)
  return found[0]!
}

describe('the broker cases', () => {
  it('have names of their own', () => {
    const names = contractCases.map(({ name }) => name)
    expect(new Set(names).size).toBe(names.length)
  })

  it.each(
    broken.map(([what, noticedBy, how, capabilities]) => ({ what, noticedBy, how, capabilities })),
  )('notice a broker that $what', async ({ noticedBy, how, capabilities }) => {
    const one = caseOf(noticedBy)
    await one.run(harness(() => ({}), capabilities))
    await expect(one.run(harness(how, capabilities))).rejects.toThrow(/./)
  })

  it('notice a broker that does not extend a lease', async () => {
    const one = caseOf('leaves a delivery to its holder')
    const leaseMs = 40
    const kept = leased(leaseMs, (ms) => ms)
    await one.run({ ...harness(kept), deliveryLeaseMs: leaseMs })
    const lapsing = leased(leaseMs, () => leaseMs)
    await expect(one.run({ ...harness(lapsing), deliveryLeaseMs: leaseMs })).rejects.toThrow(
      /although it was extended/,
    )
  })

  it('fail as a whole when one of many runs at once fails', async () => {
    const [one] = inParallel([caseOf('carries id, type')], 3)
    await one!.run(harness(() => ({})))
    const wrong = harness(envelopes((envelope) => ({ ...envelope, id: 'new' })))
    await expect(one!.run(wrong)).rejects.toThrow(/3 of 3 runs at once failed/)
  })

  it('close what they opened also when they fail', async () => {
    let open = 0
    const counting: Break = (broker) => ({
      open: (context) => {
        open++
        return broker.open(context)
      },
      close: (deadline) => {
        open--
        return broker.close(deadline)
      },
      ...envelopes((envelope) => ({ ...envelope, id: 'new' }))(broker),
    })
    await expect(caseOf('carries id, type').run(harness(counting))).rejects.toThrow(/deep/)
    expect(open).toBe(0)
  })
})
