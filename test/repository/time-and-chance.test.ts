import ts from 'typescript'
import { describe, expect, it } from 'vitest'
import { filesUnder, importsOf, lineOf, nodesOf, parse } from './source-tree.ts'

/** The one file that may touch the real clock and real randomness. */
const clockFile = 'src/contract/clock.ts'

const forbiddenGlobals = new Set([
  'Date',
  'performance',
  'setTimeout',
  'setInterval',
  'setImmediate',
  'clearTimeout',
  'clearInterval',
  'clearImmediate',
  'scheduler',
])

const forbiddenMembers = new Set([
  'Math.random',
  'process.hrtime',
  'AbortSignal.timeout',
  'crypto.randomUUID',
  'crypto.getRandomValues',
])

const forbiddenModules = new Set(['node:timers', 'node:timers/promises', 'node:perf_hooks'])
const randomFunctions =
  /^(randomUUID|randomUUIDv7|randomBytes|randomInt|randomFill|randomFillSync)$/

/** Where a source text reads the clock, waits, or rolls dice by itself. */
function usesOfTimeAndChance(text: string): string[] {
  const modules = importsOf(text)
    .map(({ specifier }) => specifier)
    .filter((specifier) => forbiddenModules.has(specifier.replace(/^(?!node:)/, 'node:')))
  const names = nodesOf(parse(text))
    .filter(isUse)
    .map((node) => `${node.getText()}:${lineOf(node)}`)
  return [...modules, ...names]
}

function isUse(node: ts.Node): boolean {
  if (ts.isPropertyAccessExpression(node)) {
    const name = node.name.text
    return (
      forbiddenMembers.has(node.getText()) ||
      (isGlobalObject(node.expression) && forbiddenGlobals.has(name))
    )
  }
  if (!ts.isIdentifier(node)) return false
  if (randomFunctions.test(node.text)) return ts.isImportSpecifier(node.parent)
  return forbiddenGlobals.has(node.text) && isGlobalReference(node)
}

function isGlobalObject(node: ts.Expression): boolean {
  return ts.isIdentifier(node) && (node.text === 'globalThis' || node.text === 'global')
}

/** Not a member, a property's name, a type, or a question such as `value instanceof Date`. */
function isGlobalReference(node: ts.Identifier): boolean {
  const parent = node.parent
  if (ts.isPropertyAccessExpression(parent)) return parent.expression === node
  if (ts.isBinaryExpression(parent)) {
    return parent.operatorToken.kind !== ts.SyntaxKind.InstanceOfKeyword || parent.left === node
  }
  const isName =
    (ts.isPropertyAssignment(parent) || ts.isMethodDeclaration(parent)) && parent.name === node
  return !isName && !ts.isTypeReferenceNode(parent) && !ts.isPropertySignature(parent)
}

describe('time and chance', () => {
  const files = [...filesUnder('src'), ...filesUnder('adapters')]

  it('come from the injected clock and random only', () => {
    const uses = files
      .filter(({ path }) => path !== clockFile)
      .flatMap(({ path, text }) => usesOfTimeAndChance(text).map((use) => `${path}: ${use}`))
    expect(uses).toEqual([])
  })

  it('are read in the clock file, which shows that the check sees them', () => {
    const clock = files.find(({ path }) => path === clockFile)
    expect(usesOfTimeAndChance(clock?.text ?? '').length).toBeGreaterThan(4)
  })
})

describe('the check of time and chance', () => {
  it.each([
    `const at = Date.now()`,
    `const at = new Date()`,
    `const clock = { now: Date.now }`,
    `const D = Date`,
    `const t = performance.now()`,
    `setTimeout(() => {}, 10)`,
    `globalThis.setTimeout(() => {}, 10)`,
    `const wait = setInterval`,
    `setImmediate(next)`,
    `const roll = Math.random()`,
    `const t = process.hrtime.bigint()`,
    `const signal = AbortSignal.timeout(10)`,
    `import { setTimeout as sleep } from 'node:timers/promises'`,
    `import { createHistogram } from 'node:perf_hooks'`,
    `import { scheduler } from 'timers/promises'`,
    `import { randomUUID } from 'node:crypto'`,
    `const id = crypto.randomUUID()`,
    `const late = { setTimeout }`,
  ])('finds %s', (text) => {
    expect(usesOfTimeAndChance(text)).not.toEqual([])
  })

  it.each([
    `// setTimeout(() => {}, 10) and Date.now()`,
    `const text = 'Date.now()'`,
    `if (value instanceof Date) throw new Error('a Date')`,
    `interface Row { at: Date; setTimeout: number }`,
    `clock.setTimeout(10)`,
    `const options = { performance: 1 }`,
  ])('lets pass %s', (text) => {
    expect(usesOfTimeAndChance(text)).toEqual([])
  })
})
