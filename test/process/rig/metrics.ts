import type { HoldfastEvent } from '../../../src/contract/events.ts'
import type { Journal } from './journal.ts'

const MEBIBYTE = 1_048_576
const SAMPLE_MS = 250

/** Writes the library's own counters down as they are told. */
export function counting(journal: Journal): (event: HoldfastEvent) => void {
  const metric = (name: string, value: number): void => {
    journal.write('lib_metric', 'ok', { name, value })
  }
  return (event) => {
    switch (event.type) {
      case 'relay.published':
      case 'relay.fenced':
        return metric(event.type, event.count)
      case 'relay.leases':
        return metric(event.type, event.held)
      case 'relay.error':
        return journal.write('lib_metric', 'info', {
          name: `${event.type} ${event.step}`,
          errClass: event.error.message,
        })
      case 'breaker.state':
      case 'broker.state': {
        const state = typeof event.state === 'string' ? event.state : event.state.status
        return metric(`${event.type} ${state}`, 1)
      }
      case 'message.done':
      case 'message.duplicate':
      case 'message.retry':
      case 'message.dead':
      case 'relay.parked':
      case 'source.lost':
      case 'settle.stale':
      case 'settle.failed':
      case 'publish.retry':
        return metric(event.type, 1)
      default:
    }
  }
}

/** Writes down how much memory the process has, until it is stopped. */
export function watchMemory(journal: Journal): () => void {
  const sample = (): void => {
    const value = Math.ceil(process.memoryUsage.rss() / MEBIBYTE)
    journal.write('lib_metric', 'ok', { name: 'rss', value })
  }
  sample()
  const timer = setInterval(sample, SAMPLE_MS)
  return () => clearInterval(timer)
}
