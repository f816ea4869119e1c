import { kafkaReader } from './kafka-reader.ts'
import { rabbitmqReader } from './rabbitmq-reader.ts'

/** What a broker holds after a run, as any other client of it sees that. */
export interface Found {
  /** Order id → reason. */
  readonly dead: ReadonlyMap<string, string>
  /** Messages that wait for a handler, now or after a delay. */
  readonly left: number
}

/** A plain client of one kind of broker; the library that is judged takes no part. */
export interface ServerReader {
  /** True when a broker answers there. */
  answers(url: string): Promise<boolean>
  /** Messages of the run that nobody has finished; those in the hands of a consumer may not be seen. */
  leftIn(url: string, prefix: string): Promise<number>
  /** Reads what a run left behind; the dead letters stay where they are. */
  read(url: string, prefix: string): Promise<Found>
  /** Deletes everything that the run made. */
  removeRun(url: string, prefix: string): Promise<void>
}

const readers: Readonly<Record<string, ServerReader>> = {
  rabbitmq: rabbitmqReader,
  kafka: kafkaReader,
}

/** The plain client for a broker; `null` where nobody but the library can look. */
export function readerOf(broker: string): ServerReader | null {
  return readers[broker] ?? null
}
