import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'

/** Root of the repository. */
export const root: string = fileURLToPath(new URL('../..', import.meta.url))

/** A source file: its path from the root, with forward slashes, and its text. */
export interface SourceFile {
  readonly path: string
  readonly text: string
}

/** An import of any form: `import`, `import type`, `export … from`, `import()`. */
export interface Import {
  readonly specifier: string
  /** Loaded when it is reached, not when the file is. */
  readonly dynamic: boolean
  /** Gone after compiling. */
  readonly typeOnly: boolean
}

/** The TypeScript files under a folder of the repository; none when there is no such folder. */
export function filesUnder(folder: string): SourceFile[] {
  if (!existsSync(join(root, folder))) return []
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(folder, name))
    .map((path) => ({ path, text: readFileSync(join(root, path), 'utf8') }))
}

/** The syntax tree of a source text. */
export function parse(text: string): ts.SourceFile {
  return ts.createSourceFile('source.ts', text, ts.ScriptTarget.ES2023, true)
}

/** Every node of a syntax tree, parents first. */
export function nodesOf(node: ts.Node): ts.Node[] {
  const found: ts.Node[] = []
  const visit = (next: ts.Node): void => {
    found.push(next)
    ts.forEachChild(next, visit)
  }
  visit(node)
  return found
}

/** One-based line of a node. */
export function lineOf(node: ts.Node): number {
  return node.getSourceFile().getLineAndCharacterOfPosition(node.getStart()).line + 1
}

/** What a source text imports. */
export function importsOf(text: string): Import[] {
  return nodesOf(parse(text)).flatMap((node) => importOf(node) ?? [])
}

function importOf(node: ts.Node): Import | null {
  if (ts.isImportDeclaration(node)) {
    const typeOnly = node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword
    return literalImport(node.moduleSpecifier, { dynamic: false, typeOnly })
  }
  if (ts.isExportDeclaration(node) && node.moduleSpecifier !== undefined) {
    return literalImport(node.moduleSpecifier, { dynamic: false, typeOnly: node.isTypeOnly })
  }
  if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
    return literalImport(node.argument.literal, { dynamic: false, typeOnly: true })
  }
  return isLoadingCall(node)
    ? literalImport(node.arguments[0], { dynamic: true, typeOnly: false })
    : null
}

function isLoadingCall(node: ts.Node): node is ts.CallExpression {
  if (!ts.isCallExpression(node)) return false
  const callee = node.expression
  return (
    callee.kind === ts.SyntaxKind.ImportKeyword ||
    (ts.isIdentifier(callee) && callee.text === 'require')
  )
}

function literalImport(
  specifier: ts.Node | undefined,
  how: Pick<Import, 'dynamic' | 'typeOnly'>,
): Import | null {
  return specifier !== undefined && ts.isStringLiteralLike(specifier)
    ? { specifier: specifier.text, ...how }
    : null
}

/** Path from the root of what a relative import names; null for packages. */
export function importedPath(from: string, specifier: string): string | null {
  if (!specifier.startsWith('.')) return null
  return relative('.', normalize(join(dirname(from), specifier)))
}

/** The package of a bare specifier: `@scope/name/part` → `@scope/name`. */
export function packageOf(specifier: string): string {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/')
}
