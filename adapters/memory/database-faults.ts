import { HoldfastError, StorageError } from '../../src/contract/errors.ts'

/** What disconnecting needs of the database. */
interface Connections {
  disconnect(): void
  reconnect(): void
}

type CommitFault = 'failed' | 'unknown-committed' | 'unknown-rolled-back'

/** What goes wrong with databases, on demand. Counts of what has happened are in `hits`. */
export class DatabaseFaults {
  readonly #connections: Connections
  readonly #commits: CommitFault[] = []
  #answerLost = false
  #hits = 0

  constructor(connections: Connections) {
    this.#connections = connections
  }

  /** Commit faults that have happened. */
  get hits(): number {
    return this.#hits
  }

  /** The next `count` commits fail, and nothing of them stays. */
  failCommits(count = 1): void {
    for (let n = 0; n < count; n++) this.#commits.push('failed')
  }

  /** The next `count` commits end without an answer: committed or not, which nobody is told. */
  loseCommits(really: 'committed' | 'rolled back', count = 1): void {
    const fault = really === 'committed' ? 'unknown-committed' : 'unknown-rolled-back'
    for (let n = 0; n < count; n++) this.#commits.push(fault)
  }

  /** Open transactions are rolled back, and nothing works until `reconnect`. */
  disconnect(): void {
    this.#connections.disconnect()
  }

  /** Ends `disconnect`. */
  reconnect(): void {
    this.#connections.reconnect()
  }

  /** Called where a commit would be made; throws when it is not made. */
  beforeCommit(): void {
    const fault = this.#commits.shift()
    if (fault === undefined) return
    this.#hits++
    if (fault === 'unknown-committed') this.#answerLost = true
    if (fault === 'unknown-rolled-back') throw commitUnknown('on purpose')
    if (fault === 'failed') {
      throw new StorageError('storage', 'the commit failed on purpose', { transient: true })
    }
  }

  /** Called when a commit was made; throws when its answer is lost. */
  afterCommit(): void {
    if (!this.#answerLost) return
    this.#answerLost = false
    throw commitUnknown('on purpose')
  }
}

/** Nobody can know whether the commit worked. */
export function commitUnknown(why: string): HoldfastError {
  const text = `the commit was not answered, ${why}: it may have worked or not; try again, the inbox knows`
  return new HoldfastError('commit-unknown', text)
}
