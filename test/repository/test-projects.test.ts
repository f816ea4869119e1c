import { existsSync, readFileSync } from 'node:fs'

import { expect, it } from 'vitest'

const root = new URL('../../', import.meta.url)

/** `a/{b,c}.test.ts` as the two names it stands for. */
function spelledOut(pattern: string): readonly string[] {
  const [, before, list, behind] = /^(.*)\{(.*)\}(.*)$/.exec(pattern) ?? []
  if (list === undefined) return [pattern]
  return list.split(',').map((one) => `${before}${one}${behind}`)
}

it('the projects of tests name no file that is not there', () => {
  const config = readFileSync(new URL('vitest.config.ts', root), 'utf8')
  const named = [...config.matchAll(/'(adapters\/[^'*]*\.test\.ts)'/g)].map(([, one]) => one!)
  const files = named.flatMap(spelledOut)
  expect(files.length).toBeGreaterThan(20)
  expect(files.filter((one) => !existsSync(new URL(`test/${one}`, root)))).toEqual([])
})
