import ts from 'typescript'
import { describe, expect, it } from 'vitest'
import { filesUnder, lineOf, nodesOf, parse } from './source-tree.ts'

const brokers = /^(rabbitmq|kafka|rocketmq|memory|sqlite)$/i
const mayName = /^src\/(config|cli)\//

/** Where a source text decides by a broker's name instead of by its capabilities. */
function namedBrokers(text: string): string[] {
  return nodesOf(parse(text))
    .filter((node) => decidesByLiteral(node) || decidesByName(node))
    .map((node) => `${node.parent.getText().split('\n')[0]}:${lineOf(node)}`)
}

/** `x === 'kafka'`, `case 'kafka':`, `['kafka'].includes(x)`, `{ kafka: … }[x]`, `new Set(['kafka'])`. */
function decidesByLiteral(node: ts.Node): boolean {
  if (ts.isStringLiteralLike(node)) return brokers.test(node.text) && !ts.isTypeNode(node.parent)
  return ts.isPropertyAssignment(node) && brokers.test(node.name.getText())
}

/** `broker.name === anything` */
function decidesByName(node: ts.Node): boolean {
  const isNameOfBroker =
    ts.isPropertyAccessExpression(node) &&
    node.name.text === 'name' &&
    /broker$/i.test(node.expression.getText())
  if (!isNameOfBroker) return false
  return ts.isSwitchStatement(node.parent) || isComparison(node.parent)
}

function isComparison(node: ts.Node): boolean {
  return ts.isBinaryExpression(node) && /^[!=]==?$/.test(node.operatorToken.getText())
}

describe('src/', () => {
  it('knows brokers by their capabilities, never by name', () => {
    const named = filesUnder('src')
      .filter(({ path }) => !mayName.test(path))
      .flatMap(({ path, text }) => namedBrokers(text).map((where) => `${path}: ${where}`))
    expect(named).toEqual([])
  })
})

describe('the check of broker names', () => {
  it.each([
    `if (broker.name === 'kafka') commit()`,
    `if (this.#broker.name !== other) commit()`,
    `switch (broker.name) { default: commit() }`,
    `switch (name) { case 'rabbitmq': commit() }`,
    `const ordered = ['kafka', 'rocketmq'].includes(name)`,
    `const limits = { sqlite: 1 }`,
    'const isMemory = kind === `memory`',
  ])('finds %s', (text) => {
    expect(namedBrokers(text)).not.toEqual([])
  })

  it.each([
    `throw new Error(\`the broker \${broker.name} has no headers\`)`,
    `// if (broker.name === 'kafka') commit()`,
    `const text = 'memory stays bounded'`,
    `if (capabilities.retryDelay === 'native') retry()`,
    `emit({ type: 'broker.state', broker: broker.name })`,
  ])('lets pass %s', (text) => {
    expect(namedBrokers(text)).toEqual([])
  })
})
