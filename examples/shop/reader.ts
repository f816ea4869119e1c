import { fateOf } from './charge-failures.ts'
import { EmbeddedBroker } from './embedded-broker.ts'
import { named, type Away, type Findings } from './findings.ts'
import { readLines } from './read-lines.ts'
import { readerOf } from './server-reader.ts'
import { files, type Settings } from './settings.ts'
import { count, openPlain, type PlainDatabase } from './sql.ts'
import { Tally, type Aways } from './tally.ts'

/** Order id → why it is in the dead letters. */
type DeadOrders = ReadonlyMap<string, string>

/**
 * Reads what a finished run left in its folder and in the broker. Plain SQL, a plain client of the
 * broker and the histories of the processes; the library that is judged here takes no part.
 */
export async function readRun(settings: Settings): Promise<Findings> {
  const tally = Tally.of(settings.dir)
  const { dead, left } = await brokerOf(settings, tally)
  const shop = await openPlain(files.shop(settings.dir), { readOnly: true, busyMs: 5_000 })
  try {
    return {
      read: await countLines(settings),
      ...intakeOf(shop),
      ...outboxOf(shop),
      ...chargesOf(shop),
      ...fatesOf(shop, settings, dead, tally),
      ...deliveriesOf(tally, dead),
      ...faultsOf(tally),
      leftInBroker: left,
    }
  } finally {
    shop.close()
  }
}

/** What the broker itself holds; where nobody can look, as far as the histories say. */
async function brokerOf(
  { dir, broker, url, prefix }: Settings,
  tally: Tally,
): Promise<{ readonly dead: DeadOrders; readonly left: number | null }> {
  const reader = readerOf(broker)
  if (reader !== null && url !== null) return reader.read(url, prefix ?? '')
  const embedded = await EmbeddedBroker.open(dir)
  if (embedded === null) return { dead: tally.deadOrders(), left: null }
  try {
    return { dead: embedded.deadLetters(), left: embedded.waiting() }
  } finally {
    embedded.close()
  }
}

/** Lines that are not blank. */
async function countLines({ input }: Settings): Promise<number> {
  const span = { from: 0, linesBefore: 0, to: input.bytes }
  let lines = 0
  for await (const { bytes } of readLines(input.path, span)) {
    if (bytes === null || bytes.toString('utf8').trim() !== '') lines++
  }
  return lines
}

function intakeOf(
  shop: PlainDatabase,
): Pick<Findings, 'accepted' | 'rejected' | 'rejections' | 'finished'> {
  const rejections = shop.all('SELECT line, reason FROM rejections ORDER BY line')
  return {
    accepted: count(shop, 'SELECT count(*) FROM orders'),
    rejected: count(shop, 'SELECT rejected FROM intake'),
    finished: count(shop, 'SELECT finished FROM intake') === 1,
    rejections: rejections.map((row) => ({ line: Number(row.line), reason: String(row.reason) })),
  }
}

function outboxOf(shop: PlainDatabase): Pick<Findings, 'published' | 'waiting' | 'parked'> {
  const waiting = count(shop, 'SELECT count(*) FROM holdfast_outbox')
  const parked = count(shop, 'SELECT count(*) FROM holdfast_outbox_dead')
  const accepted = count(shop, 'SELECT count(*) FROM orders')
  return { waiting, parked, published: accepted - waiting - parked }
}

const CHARGED_TWICE = 'SELECT order_id AS id FROM charges GROUP BY order_id HAVING count(*) > 1'

const INVENTED = `
  SELECT charges.order_id AS id FROM charges LEFT JOIN orders ON orders.id = charges.order_id
  WHERE orders.id IS NULL OR orders.customer <> charges.customer OR orders.amount <> charges.amount`

const LATE = `
  SELECT id FROM (
    SELECT order_id AS id, line,
      max(line) OVER (PARTITION BY customer ORDER BY first ROWS UNBOUNDED PRECEDING) AS highest
    FROM (SELECT order_id, customer, line, min(id) AS first FROM charges GROUP BY order_id)
  ) WHERE line < highest`

function chargesOf(
  shop: PlainDatabase,
): Pick<Findings, 'charged' | 'chargedTwice' | 'invented' | 'lateCharges'> {
  return {
    charged: count(shop, 'SELECT count(DISTINCT order_id) FROM charges'),
    chargedTwice: named(ids(shop, CHARGED_TWICE)),
    invented: named(ids(shop, INVENTED)),
    lateCharges: named(ids(shop, LATE)),
  }
}

type Fates = Pick<
  Findings,
  | 'lost'
  | 'strangers'
  | 'hopeless'
  | 'retried'
  | 'dead'
  | 'deadReasons'
  | 'deadMissing'
  | 'deadUnexpected'
  | 'deadAndCharged'
>

/** Compares where every order ended with where it had to end. */
function fatesOf(shop: PlainDatabase, settings: Settings, dead: DeadOrders, tally: Tally): Fates {
  const accepted = new Set(ids(shop, 'SELECT id FROM orders'))
  const charged = new Set(ids(shop, 'SELECT DISTINCT order_id AS id FROM charges'))
  const hopeless = new Set(
    [...accepted].filter((id) => fateOf(settings.failures, id).kind === 'permanent'),
  )
  const gone = [...tally.taken].filter((id) => !accepted.has(id))
  const forgotten = [...accepted].filter((id) => !charged.has(id) && !dead.has(id))
  return {
    lost: named([...gone, ...forgotten]),
    strangers: named([...tally.delivered].filter((id) => !accepted.has(id))),
    hopeless: hopeless.size,
    retried: [...tally.failedOnce].filter((id) => charged.has(id)).length,
    dead: dead.size,
    deadReasons: reasonsOf(dead),
    deadMissing: named([...hopeless].filter((id) => !dead.has(id))),
    deadUnexpected: named([...dead.keys()].filter((id) => !hopeless.has(id))),
    deadAndCharged: named([...dead.keys()].filter((id) => charged.has(id))),
  }
}

function deliveriesOf(
  tally: Tally,
  dead: DeadOrders,
): Pick<Findings, 'delivered' | 'redelivered' | 'lateDeliveries'> {
  const { handledAgain: handled, duplicates } = tally
  return {
    delivered: new Set([...tally.delivered, ...dead.keys()]).size,
    redelivered: { handled, duplicates },
    lateDeliveries: named(tally.outOfOrder()),
  }
}

function faultsOf(
  tally: Tally,
): Pick<
  Findings,
  'kills' | 'crashes' | 'outages' | 'outageFailures' | 'restarts' | 'restartFailures' | 'torn'
> {
  const { outages, restarts, torn } = tally
  return {
    kills: Object.fromEntries(tally.kills),
    crashes: Object.fromEntries(tally.crashes),
    outages: awaysOf(outages, tally),
    outageFailures: outages.failures,
    restarts: awaysOf(restarts, tally),
    restartFailures: restarts.failures,
    torn,
  }
}

function awaysOf({ all }: Aways, { takenAt }: Tally): readonly Away[] {
  return all.map(({ from, to, ms }) => {
    return { ms, acceptedMeanwhile: takenAt.filter((at) => at >= from && at <= to).length }
  })
}

function reasonsOf(dead: DeadOrders): Readonly<Record<string, number>> {
  const reasons = new Map<string, number>()
  for (const reason of dead.values()) reasons.set(reason, (reasons.get(reason) ?? 0) + 1)
  return Object.fromEntries(reasons)
}

function ids(shop: PlainDatabase, sql: string): readonly string[] {
  return shop.all(sql).map((row) => String(row.id))
}
