/**
 * Sums what the steps of a run reported, as the plain line `N passed, N failed`.
 *
 * The file named by the argument has one step a line: exit code, name, folder of its reports
 * (vitest's json format). A step that ended badly without reporting a failed test counts as one
 * failure: it died. So does a run in which no test ran.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

function reportsIn(folder) {
  if (!existsSync(folder)) return []
  return readdirSync(folder)
    .filter((name) => name.endsWith('.json'))
    .map((name) => readReport(join(folder, name)))
}

function readReport(file) {
  try {
    const { numPassedTests, numFailedTests } = JSON.parse(readFileSync(file, 'utf8'))
    return { passed: Number(numPassedTests) || 0, failed: Number(numFailedTests) || 0 }
  } catch {
    // A report cut off in the middle says that its runner died.
    return { passed: 0, failed: 1 }
  }
}

function countStep(line) {
  const [exitCode, name, folder] = line.split(' ')
  const reports = reportsIn(folder)
  const passed = reports.reduce((sum, report) => sum + report.passed, 0)
  const failed = reports.reduce((sum, report) => sum + report.failed, 0)
  const died = exitCode !== '0' && failed === 0 ? 1 : 0
  if (exitCode !== '0') console.log(`step ${name} ended with exit code ${exitCode}`)
  return { passed, failed: failed + died }
}

const steps = readFileSync(process.argv[2], 'utf8').trim().split('\n').map(countStep)
const passed = steps.reduce((sum, step) => sum + step.passed, 0)
const counted = steps.reduce((sum, step) => sum + step.failed, 0)
// A run in which no test ran has shown nothing.
const failed = passed + counted === 0 ? 1 : counted
console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed > 0 ? 1 : 0
