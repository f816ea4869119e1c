import type { Deadline } from '../../src/contract/broker.ts'
import { OptionError } from '../../src/contract/errors.ts'
import { OUTBOX_SCOPE } from '../sql/lease.ts'
import { metaOf, refuseInsideTransaction, setMeta } from './ensure-schema.ts'
import type { SqliteFile } from './file.ts'
import { makeLeases } from './leases.ts'

const NAME = 'outbox.buckets'

/**
 * Makes the lease rows of so many buckets. Rows keep the bucket they were given, so the number cannot
 * change while there are any: throws an `OptionError` that names the number in the file.
 */
export async function ensureBuckets(
  file: SqliteFile,
  buckets: number,
  deadline: Deadline,
): Promise<void> {
  if (metaOf(file.reader, NAME) === buckets) return
  refuseInsideTransaction(file, 'outbox')
  await file.writer.write(deadline, (db) => {
    const found = metaOf(db, NAME)
    if (found === buckets) return
    const rows =
      'SELECT EXISTS (SELECT 1 FROM holdfast_outbox) OR EXISTS (SELECT 1 FROM holdfast_outbox_scheduled) AS some'
    if (found !== null && db.get(rows)?.['some'] === 1) {
      throw new OptionError('buckets', buckets, `${found}, until the outbox in the file is empty`)
    }
    db.run('DELETE FROM holdfast_lease WHERE scope = ?', OUTBOX_SCOPE)
    makeLeases(db, OUTBOX_SCOPE, buckets)
    setMeta(db, NAME, buckets)
  })
}
