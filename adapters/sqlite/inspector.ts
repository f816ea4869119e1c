import type { Inspector } from '../../src/contract/broker.ts'
import { UnroutableError } from '../../src/contract/errors.ts'
import type { Destination, Envelope } from '../../src/contract/message.ts'
import type { EnvelopeRow, EnvelopeRows } from '../sql/envelope.ts'
import { brokerSql, QUEUE_KIND } from './broker-schema.ts'
import { storageError } from './errors.ts'
import type { SqliteFile } from './file.ts'

/** Looks into queues over the reading connection; of a topic, into all its groups. */
export class SqliteInspector implements Inspector {
  readonly #file: () => SqliteFile
  readonly #rows: EnvelopeRows

  constructor(file: () => SqliteFile, rows: EnvelopeRows) {
    this.#file = file
    this.#rows = rows
  }

  depth(destination: Destination): Promise<number> {
    return this.#read((file) => {
      const counts = this.#queues(file, destination).map((queue) =>
        file.reader.get(brokerSql.depth, queue, queue),
      )
      return counts.reduce((sum, row) => sum + (row?.['count'] as number), 0)
    })
  }

  browse(destination: Destination, limit: number): Promise<readonly Envelope[]> {
    return this.#read((file) => {
      const found = this.#queues(file, destination).flatMap((queue) =>
        file.reader.all(brokerSql.browse, queue, limit, queue, limit, limit),
      )
      const rows = found.slice(0, limit) as unknown as EnvelopeRow[]
      return rows.map((row) => this.#rows.envelope(row, destination, null))
    })
  }

  #queues({ reader }: SqliteFile, to: Destination): readonly number[] {
    if (to.kind === 'reply') return []
    if (to.kind === 'topic') return reader.all(brokerSql.route, to.topic).map(idOf)
    const found = reader.all(brokerSql.findQueue, to.topic, to.group, QUEUE_KIND[to.kind])
    if (found.length > 0) return found.map(idOf)
    throw new UnroutableError(`group "${to.group}" of topic "${to.topic}" is not declared`)
  }

  async #read<T>(work: (file: SqliteFile) => T): Promise<T> {
    const file = this.#file()
    try {
      return work(file)
    } catch (error) {
      throw storageError(error, file.path, 'reading')
    }
  }
}

function idOf(row: { id?: unknown }): number {
  return row.id as number
}
