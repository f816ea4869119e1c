import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import ts from 'typescript'
import { describe, expect, it } from 'vitest'

const root = fileURLToPath(new URL('../../', import.meta.url))
const pages = ['README.md']

/** The TypeScript blocks of a page, each as a file of its own beside it. */
function snippets(page: string): readonly (readonly [file: string, text: string])[] {
  const blocks = readFileSync(join(root, page), 'utf8').matchAll(/```ts\n([\s\S]*?)```/g)
  return [...blocks].map(([, text], index) => [join(root, `${page}.${index}.ts`), text ?? ''])
}

/** What the compiler has to say about the files, under the project's own settings. */
function problems(files: ReadonlyMap<string, string>): readonly string[] {
  const config = ts.readConfigFile(join(root, 'tsconfig.json'), (file) => ts.sys.readFile(file))
  const { options } = ts.parseJsonConfigFileContent(config.config, ts.sys, root)
  const host = ts.createCompilerHost({ ...options, noEmit: true })
  const readFile = host.readFile.bind(host)
  const fileExists = host.fileExists.bind(host)
  const getSourceFile = host.getSourceFile.bind(host)
  host.readFile = (file) => files.get(file) ?? readFile(file)
  host.fileExists = (file) => files.has(file) || fileExists(file)
  host.getSourceFile = (file, target, ...rest) => {
    const text = files.get(file)
    return text === undefined
      ? getSourceFile(file, target, ...rest)
      : ts.createSourceFile(file, text, target)
  }
  const own = { ...options, noEmit: true, isolatedDeclarations: false, declaration: false }
  const program = ts.createProgram([...files.keys()], { ...own, declarationMap: false }, host)
  return [...files.keys()]
    .flatMap((file) => ts.getPreEmitDiagnostics(program, program.getSourceFile(file)))
    .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'))
}

describe('the examples in the pages', () => {
  it.each(pages)('compile: %s', { timeout: 60_000 }, (page) => {
    const files = new Map(snippets(page))
    expect(files.size).toBeGreaterThan(0)
    expect(problems(files)).toEqual([])
  })

  it('would be found wrong when they are', { timeout: 60_000 }, () => {
    const wrong = new Map([[join(root, 'wrong.ts'), "import { tpoic } from 'holdfast'\ntpoic()\n"]])
    expect(problems(wrong).join()).toContain('tpoic')
  })
})
