import type { Emit } from '../../src/contract/events.ts'
import type { Finding } from '../../src/contract/topology.ts'

/** Warnings remembered, so that each is told once. */
const MOST_TOLD = 10_000
/** Subjects named in one event. */
const MOST_NAMED = 5

/** Tells findings of severity warning as events: once each, and those that say the same of many topics together. */
export class Warnings {
  readonly #emit: Emit
  readonly #told = new Set<string>()

  constructor(emit: Emit) {
    this.#emit = emit
  }

  tell(findings: readonly Finding[]): void {
    const byText = new Map<string, { finding: Finding; subjects: string[] }>()
    for (const finding of findings) {
      if (finding.severity !== 'warning' || !this.#isNew(finding)) continue
      const text = `${finding.code} ${finding.message}`
      const group = byText.get(text) ?? { finding, subjects: [] }
      group.subjects.push(finding.subject)
      byText.set(text, group)
    }
    for (const { finding, subjects } of byText.values()) {
      const { code, message } = finding
      this.#emit({ type: 'warning', code, message: `${listed(subjects)}: ${message}` })
    }
  }

  #isNew({ code, subject, message }: Finding): boolean {
    const about = `${code} ${subject} ${message}`
    if (this.#told.has(about)) return false
    if (this.#told.size < MOST_TOLD) this.#told.add(about)
    return true
  }
}

/** How things are at the moment, not how they were set up: no reason to refuse them. */
const passing: ReadonlySet<string> = new Set(['kafka.out-of-sync', 'kafka.no-leader'])

/** With `strict` weak settings are errors: publisher and consumer do not start. */
export function strictly(strict: boolean, findings: readonly Finding[]): readonly Finding[] {
  if (!strict) return findings
  return findings.map((one) => {
    const isWeak = one.severity === 'warning' && !passing.has(one.code)
    return isWeak ? { ...one, severity: 'error' } : one
  })
}

function listed(subjects: readonly string[]): string {
  const named = subjects.slice(0, MOST_NAMED).map((subject) => `"${subject}"`)
  const left = subjects.length - named.length
  return `${named.join(', ')}${left > 0 ? ` and ${left} more` : ''}`
}
