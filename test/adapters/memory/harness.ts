import { memory, type MemoryOptions } from '../../../adapters/memory/index.ts'
import type { BrokerHarness } from '../../conformance/index.ts'

/** Every connection of a case is one to the same broker; every fault of the suite can be had. */
export function harness(name: string, options: MemoryOptions, patience = 1): BrokerHarness {
  const first = memory(options)
  const { faults } = first
  return {
    name,
    connect: () => memory({ sameAs: first }),
    patience,
    shortRetryMs: 60,
    asksBack: true,
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
