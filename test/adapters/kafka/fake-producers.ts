import type {
  DriverProducer,
  KafkaDriver,
  Part,
  PartResult,
  Told,
} from '../../../adapters/kafka/driver.ts'
import {
  OutcomeUnknownError,
  PublishRefusedError,
  TooLargeError,
} from '../../../src/contract/errors.ts'

/** One call of `produce` that waits for the test's word. */
export class FakeFlight {
  readonly producer: FakeProducer
  readonly parts: readonly Part[]
  readonly deadline: number
  readonly settled: Promise<readonly PartResult[]>
  isSettled = false
  readonly #told: Told | undefined
  readonly #results: (PartResult | undefined)[]
  readonly #resolve: (results: readonly PartResult[]) => void

  constructor(producer: FakeProducer, parts: readonly Part[], deadline: number, told?: Told) {
    this.producer = producer
    this.parts = parts
    this.deadline = deadline
    this.#told = told
    this.#results = parts.map(() => undefined)
    const { promise, resolve } = withResolve<readonly PartResult[]>()
    this.settled = promise
    this.#resolve = resolve
  }

  /** What it carries: `topic/partition: first second …`. */
  get text(): string {
    const texts = this.parts.map(({ topic, partition, records }) => {
      const values = records.map(({ value }) => String(value)).join(' ')
      return `${topic}/${partition}: ${values}`
    })
    return texts.join('; ')
  }

  isTold(index: number): boolean {
    return this.#results[index] !== undefined
  }

  /** Tells one part, and leaves the others open. */
  tell(index: number, result: PartResult): void {
    this.#results[index] = result
    this.producer.freed(this.parts[index] as Part)
    this.#told?.(index, result)
  }

  /** Ends it: what was not told is `rest`; anything but stored makes the producer useless. */
  answer(rest: PartResult = stored()): void {
    const results = this.#results.map((result) => result ?? rest)
    this.isSettled = true
    if (results.some(({ status }) => status !== 'stored')) this.producer.usable = false
    this.#resolve(results)
  }
}

/** A producer that watches whether the rules of the seam are kept. */
export class FakeProducer implements DriverProducer {
  readonly name: string
  readonly #driver: FakeDriver
  usable = true
  isClosed = false
  flight: FakeFlight | null = null

  constructor(name: string, driver: FakeDriver) {
    this.name = name
    this.#driver = driver
  }

  produce(parts: readonly Part[], deadline: number, told?: Told): Promise<readonly PartResult[]> {
    const { breaches } = this.#driver
    if (this.flight?.isSettled === false) breaches.push(`${this.name}: two requests at once`)
    if (!this.usable || this.isClosed) breaches.push(`${this.name}: used although it is useless`)
    const flight = new FakeFlight(this, parts, deadline, told)
    this.flight = flight
    this.#driver.begin(flight)
    return flight.settled
  }

  freed(part: Part): void {
    this.#driver.free(part)
  }

  async close(): Promise<void> {
    this.isClosed = true
  }
}

/** Hands out fake producers and keeps what they are asked for. */
export class FakeDriver implements Pick<KafkaDriver, 'producer'> {
  readonly producers: FakeProducer[] = []
  readonly flights: FakeFlight[] = []
  /** Rules of the seam that were broken. */
  readonly breaches: string[] = []
  /** Called with each new flight; default: it waits. */
  onFlight: (flight: FakeFlight) => void = () => undefined
  readonly #unresolved = new Map<string, FakeFlight>()

  producer(name: string): FakeProducer {
    const producer = new FakeProducer(name, this)
    this.producers.push(producer)
    return producer
  }

  /** Flights that wait. */
  get open(): readonly FakeFlight[] {
    return this.flights.filter(({ isSettled }) => !isSettled)
  }

  /** What every flight so far carried. */
  get texts(): readonly string[] {
    return this.flights.map(({ text }) => text)
  }

  /** A part was told: its partition is free. */
  free({ topic, partition }: Part): void {
    this.#unresolved.delete(`${topic}/${partition}`)
  }

  begin(flight: FakeFlight): void {
    this.flights.push(flight)
    for (const { topic, partition } of flight.parts) {
      const name = `${topic}/${partition}`
      const other = this.#unresolved.get(name)
      if (other !== undefined && !other.isSettled) this.breaches.push(`${name}: two parts at once`)
      this.#unresolved.set(name, flight)
    }
    this.onFlight(flight)
  }
}

export function stored(baseOffset: string | null = '0'): PartResult {
  return { status: 'stored', baseOffset }
}

export function unknown(): PartResult {
  return { status: 'unknown', error: new OutcomeUnknownError('connection-lost', 'lost') }
}

export function refused(more: { stale?: boolean; retryable?: boolean } = {}): PartResult {
  const error = new PublishRefusedError('unavailable', 'refused', {
    retryable: more.retryable ?? true,
  })
  return { status: 'refused', error, stale: more.stale ?? false }
}

export function tooLarge(): PartResult {
  return { status: 'refused', error: new TooLargeError('too large'), alone: true }
}

function withResolve<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined
  const promise = new Promise<T>((done) => void (resolve = done))
  return { promise, resolve }
}
