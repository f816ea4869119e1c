/**
 * The application's own tables. `effects` has no unique key on purpose: an effect made twice would
 * show. `orders` is the business row that commits with its message.
 */
export const TABLES = `
  CREATE TABLE IF NOT EXISTS orders (
    msg_id TEXT PRIMARY KEY,
    producer TEXT NOT NULL,
    item_key TEXT NOT NULL,
    n INTEGER NOT NULL,
    proc TEXT NOT NULL,
    tx TEXT NOT NULL
  );
  CREATE TABLE IF NOT EXISTS effects (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    msg_id TEXT NOT NULL,
    consumers TEXT NOT NULL,
    proc TEXT NOT NULL,
    pid INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    delivery TEXT NOT NULL
  );
`

export const INSERT_ORDER =
  'INSERT INTO orders (msg_id, producer, item_key, n, proc, tx) VALUES (?, ?, ?, ?, ?, ?)'

export const INSERT_EFFECT =
  'INSERT INTO effects (msg_id, consumers, proc, pid, seq, at, delivery) VALUES (?, ?, ?, ?, ?, ?, ?)'

/** How far a producer's keys are, as the database says. */
export const LAST_ORDERS =
  'SELECT item_key, max(n) AS n FROM orders WHERE producer = ? GROUP BY item_key'
