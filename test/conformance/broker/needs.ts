import type { Broker } from '../../../src/contract/broker.ts'
import type { Capabilities, Ordering } from '../../../src/contract/capabilities.ts'
import type { Need } from '../case.ts'
import type { BrokerFaults, BrokerHarness } from './harness.ts'
import { Stage } from './stage.ts'

interface Known {
  readonly capabilities: Capabilities
  readonly inspects: boolean
}

const known = new WeakMap<BrokerHarness, Promise<Known>>()

/** What the broker says of itself; asked once per harness, over a connection of its own. */
function ask(harness: BrokerHarness): Promise<Known> {
  let answer = known.get(harness)
  if (answer === undefined) {
    answer = probe(harness)
    known.set(harness, answer)
  }
  return answer
}

async function probe(harness: BrokerHarness): Promise<Known> {
  const stage = new Stage(harness)
  try {
    const { broker, capabilities } = await stage.connect()
    return { capabilities, inspects: inspects(broker) }
  } finally {
    await stage.end()
  }
}

const inspects = (broker: Broker): boolean => broker.inspect !== undefined

/** A capability the case is about; `what` is how the report names it. */
export function capability(
  what: string,
  met: (capabilities: Capabilities) => boolean,
): Need<BrokerHarness> {
  return { what, met: async (harness) => met((await ask(harness)).capabilities) }
}

/** The broker keeps this order. */
export function ordering(wanted: Ordering): Need<BrokerHarness> {
  return capability(`ordering '${wanted}'`, (has) => has.ordering.includes(wanted))
}

/** The harness can make this fault happen. */
export function fault(name: keyof BrokerFaults): Need<BrokerHarness> {
  return { what: `the fault ${name}`, met: (harness) => harness.faults?.[name] !== undefined }
}

/** The broker delays retries itself, through `Delivery.retry`. */
export const nativeRetry: Need<BrokerHarness> = capability(
  "retryDelay 'native'",
  (has) => has.retryDelay === 'native',
)

/** The broker delays what is sent to a retry destination. */
export const retryLevels: Need<BrokerHarness> = capability(
  "retryDelay 'levels'",
  (has) => has.retryDelay === 'levels',
)

/** A message can be delayed on its way back to its group, whichever way. */
export const delayedRetry: Need<BrokerHarness> = capability(
  "retryDelay 'native' or 'levels'",
  (has) => has.retryDelay !== 'none',
)

/** A consumer is asked before one of its sources goes to another that joins. */
export const asksBack: Need<BrokerHarness> = {
  what: 'sources that are asked back',
  met: (harness) => harness.asksBack === true,
}

/** Deliveries are leased one by one, and can be extended. */
export const deliveryLeases: Need<BrokerHarness> = {
  what: 'deliveries that can be extended',
  met: (harness) => harness.deliveryLeaseMs !== undefined,
}

/** Destinations can be looked into. */
export const inspector: Need<BrokerHarness> = {
  what: 'an inspector',
  met: async (harness) => (await ask(harness)).inspects,
}

/** Another process can open the same store. */
export const secondProcess: Need<BrokerHarness> = {
  what: 'a second process',
  met: (harness) => harness.secondProcess !== undefined,
}
