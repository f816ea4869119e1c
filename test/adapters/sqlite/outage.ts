import type { Driver } from '../../../adapters/sqlite/driver.ts'
import { sqlite } from '../../../adapters/sqlite/index.ts'
import { LockHolder } from './lock-holder.ts'
import { context, envelopes, send, soon, until } from './stage.ts'

/**
 * What a restart is to a broker that is a file: for a while nobody can write, since another process
 * has the lock. Lasts until this process knows, and is over when it can write again. Whoever asks for
 * one while it lasts gets this one: there is only one broker to be away.
 */
export class Outage {
  readonly #driver: Driver
  readonly #file: string
  #holder: LockHolder | null = null
  #lasting: Promise<void> | null = null

  constructor(driver: Driver, file: string) {
    this.#driver = driver
    this.#file = file
  }

  happen(): Promise<void> {
    this.#lasting ??= this.#last().finally(() => (this.#lasting = null))
    return this.#lasting
  }

  async close(): Promise<void> {
    await this.#holder?.end()
  }

  async #last(): Promise<void> {
    const broker = sqlite({ file: this.#file, driver: this.#driver.name })
    await broker.open(context())
    this.#holder ??= new LockHolder(this.#driver, this.#file)
    await this.#holder.take()
    const states: string[] = []
    broker.onState(({ status }) => void states.push(status))
    // Nobody notices who does not write.
    const writing = send(broker.sender('settle'), envelopes(['to nobody']))
    await until(() => states.at(-1) === 'blocked', 'the file to be found locked')
    await this.#holder.give()
    await writing
    await until(() => states.at(-1) === 'up', 'the file to be written again')
    await broker.close(soon())
  }
}
