import { openPlain } from './sql.ts'

/** Rejected lines that are kept with their reason; more are only counted. */
export const REJECTIONS_KEPT = 20

/** The shop's own tables. `charges` has no unique key on purpose: an order charged twice would show. */
const tables = `
  PRAGMA journal_mode = WAL;
  CREATE TABLE orders (
    id TEXT PRIMARY KEY,
    customer TEXT NOT NULL,
    amount REAL NOT NULL,
    line INTEGER NOT NULL
  );
  CREATE TABLE charges (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    order_id TEXT NOT NULL,
    customer TEXT NOT NULL,
    amount REAL NOT NULL,
    line INTEGER NOT NULL
  );
  CREATE INDEX charges_of_order ON charges (order_id);
  CREATE TABLE intake (
    line INTEGER NOT NULL,
    next_byte INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    rejected INTEGER NOT NULL,
    finished INTEGER NOT NULL
  );
  INSERT INTO intake VALUES (0, 0, 0, 0, 0);
  CREATE TABLE rejections (line INTEGER PRIMARY KEY, reason TEXT NOT NULL);
`

/** Makes the shop's database in a new file. */
export async function createTables(file: string): Promise<void> {
  const database = await openPlain(file, { readOnly: false, busyMs: 5_000 })
  try {
    database.exec(tables)
  } finally {
    database.close()
  }
}
