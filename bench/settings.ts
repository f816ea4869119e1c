import { parseArgs } from 'node:util'

/** What the command line of a bench asks for. */
export interface Settings {
  /** Suites to run, in order. */
  readonly suites: readonly string[]
  readonly rounds: number
  readonly warmUps: number
  /** Messages of a memory case; undefined: as many as the suite finds right. */
  readonly messages: number | undefined
  /** How long the broker is away in the memory suite. */
  readonly awayMs: number
  /** Where databases are put; undefined: `reports/` in the working directory. */
  readonly directory: string | undefined
  readonly jsonFile: string | undefined
}

const usage = `usage: npm run bench -- [SUITE …] [--rounds N] [--warm-ups N] [--messages N]
         [--away-ms N] [--dir DIRECTORY] [--json FILE]`

/** Reads the command line; throws an error that names the wrong argument and shows the usage. */
export function parseSettings(args: readonly string[], suites: readonly string[]): Settings {
  const { values, positionals } = parse(args)
  for (const suite of positionals) {
    if (!suites.includes(suite)) {
      throw new Error(`no suite '${suite}': there are ${suites.join(', ')}\n${usage}`)
    }
  }
  return {
    suites: positionals.length === 0 ? suites : positionals,
    rounds: wholeNumber('rounds', values.rounds, 5),
    warmUps: wholeNumber('warm-ups', values['warm-ups'], 1),
    messages:
      values.messages === undefined ? undefined : wholeNumber('messages', values.messages, 100_000),
    awayMs: wholeNumber('away-ms', values['away-ms'], 1_000),
    directory: values.dir,
    jsonFile: values.json,
  }
}

function parse(args: readonly string[]): ReturnType<typeof parseWith> {
  try {
    return parseWith(args)
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${usage}`, { cause: error })
  }
}

function parseWith(args: readonly string[]) {
  return parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      rounds: { type: 'string', default: '7' },
      'warm-ups': { type: 'string', default: '2' },
      messages: { type: 'string' },
      'away-ms': { type: 'string', default: '60000' },
      dir: { type: 'string' },
      json: { type: 'string' },
    },
  })
}

function wholeNumber(name: string, text: string, min: number): number {
  const value = Number(text)
  if (Number.isSafeInteger(value) && value >= min) return value
  throw new Error(`--${name} is '${text}': a whole number, ${min} or more\n${usage}`)
}
