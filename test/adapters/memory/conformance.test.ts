import { describe, it } from 'vitest'

import type { CapabilitySwitches } from '../../../adapters/memory/index.ts'
import { memory } from '../../../adapters/memory/index.ts'
import { brokerCases, registerCases, type BrokerHarness } from '../../conformance/index.ts'

function harness(name: string, capabilities: CapabilitySwitches): BrokerHarness {
  const first = memory({ capabilities })
  const { faults } = first
  const held = new Map<string, { end(): void }>()
  return {
    name,
    connect: () => memory({ sameAs: first }),
    shortRetryMs: 60,
    faults: {
      restart: () => faults.restart(),
      stall: (topic) => {
        const fault = faults.stall(topic)
        held.set(topic, fault)
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

const variants: readonly (readonly [string, CapabilitySwitches])[] = [['memory', {}]]

for (const [name, capabilities] of variants) {
  await registerCases(brokerCases, { describe, it }, () => harness(name, capabilities))
}
