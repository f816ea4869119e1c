/** What a figure has to reach. */
export type Target = { readonly atMost: number } | { readonly atLeast: number }

/** One measured number, with what it has to reach where that is written down. */
export interface Figure {
  readonly suite: string
  readonly name: string
  readonly value: number
  readonly unit: string
  readonly durability: string
  readonly target?: Target
}

/** Whether the target is reached; undefined for figures that have none. */
export function reached({ value, target }: Figure): boolean | undefined {
  if (target === undefined) return undefined
  return 'atMost' in target ? value <= target.atMost : value >= target.atLeast
}

function targetText({ target }: Figure): string {
  if (target === undefined) return ''
  return 'atMost' in target ? `≤ ${plain(target.atMost)}` : `≥ ${plain(target.atLeast)}`
}

function verdictText(figure: Figure): string {
  const verdict = reached(figure)
  return verdict === undefined ? '' : verdict ? 'yes' : 'NO'
}

/** Three significant digits, thousands apart. */
function plain(value: number): string {
  if (!Number.isFinite(value)) return String(value)
  const rounded = value === 0 ? 0 : Number(value.toPrecision(3))
  return rounded.toLocaleString('en-US', { maximumSignificantDigits: 3 }).replaceAll(',', ' ')
}

const heading = ['suite', 'figure', 'median', 'unit', 'target', 'reached', 'durability']

/** The figures as a Markdown table, readable as it is. */
export function figureTable(figures: readonly Figure[]): string {
  const cells = figures.map((figure) => [
    figure.suite,
    figure.name,
    plain(figure.value),
    figure.unit,
    targetText(figure),
    verdictText(figure),
    figure.durability,
  ])
  const widths = heading.map((head, column) =>
    Math.max(head.length, ...cells.map((row) => row[column]?.length ?? 0)),
  )
  const line = (row: readonly string[]): string =>
    `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`
  const rule = widths.map((width) => '-'.repeat(width))
  return [line(heading), line(rule), ...cells.map(line)].join('\n')
}
