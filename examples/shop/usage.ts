/** The command line is wrong, or what it names cannot be used; the text says what and what to do. Exit code 64. */
export class UsageError extends Error {
  override readonly name: string = 'UsageError'
}

/** Exit codes of the demo. */
export const EXIT: Readonly<Record<'kept' | 'broken' | 'notShown' | 'usage', number>> =
  Object.freeze({ kept: 0, broken: 1, notShown: 2, usage: 64 })

/** What `--help` prints. */
export const HELP = `Takes orders from NDJSON, charges each of them once, and kills its own processes on the way.

  npm run demo -- [options]          or   node dist/examples/shop/demo.js [options]

Input
  --input FILE       one JSON object per line; "-" reads standard input (default: 5 000 sample orders)
  --id FIELD         name of the field with the order's id; dots go into objects (default: detected)
  --key FIELD        whose orders stay in order, for example the customer (default: detected)
  --amount FIELD     a number, or a text that is one (default: detected)

Broker
  --broker NAME      sqlite (default), rabbitmq, kafka, rocketmq; memory runs in one process, without faults
  --url URL          where rabbitmq, kafka or rocketmq is (rabbitmq and kafka without it: one is
                     started in a container, and removed at the end)
  --container NAME   the container that broker runs in: it is paused for the outage, and restarted

Faults
  --kills N          SIGKILLs for each of the four processes (default 3; fewer end with exit code 2)
  --outage SECONDS   how long the broker is taken away (default 2; 0 for not at all: exit code 2)
  --restarts N       how often a broker in a container is restarted: 1 (default), or 0
  --seed N           chooses the moments of the kills and the charges that fail (default 11)

Run
  --rate N           orders per second taken from the input (default: the input spread over 25 s,
                     at most 400 per second)
  --fast             no pause between orders
  --timeout SECONDS  gives up after this long (default: three times what the input should take, and 600)
  --dir FOLDER       where databases and histories go: a new or empty folder (default: a temporary one)
  --keep             leaves the temporary folder in place
  --help             this text

Exit code: 0 the promise was kept, 1 it was broken, 2 nothing was accepted or a fault never took
effect, 64 the command line or the input cannot be used.
`
