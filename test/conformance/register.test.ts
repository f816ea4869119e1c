import { describe as nodeDescribe, it as nodeIt } from 'node:test'
import { describe, expect, it } from 'vitest'

import type { Case } from './case.ts'
import { registerCases, type TestRunner } from './register.ts'

interface Subject {
  readonly name: string
  readonly able: boolean
}

const able = { what: 'ability', met: (subject: Subject) => subject.able }
const never = { what: 'a miracle', met: () => false }

function caseNamed(name: string, needs: Case<Subject>['needs']): Case<Subject> {
  return {
    name,
    needs,
    run: async (subject) => {
      if (name === 'fails') throw new Error(`${subject.name} fails`)
    },
  }
}

const cases = [
  caseNamed('works', []),
  caseNamed('fails', []),
  caseNamed('needs ability', [able]),
  caseNamed('needs a miracle', [never]),
  caseNamed('needs both', [able, never]),
]

/** A test runner that only remembers. */
function recording(): {
  runner: TestRunner
  suites: string[]
  tests: Map<string, () => Promise<void>>
} {
  const suites: string[] = []
  const tests = new Map<string, () => Promise<void>>()
  const runner: TestRunner = {
    describe: (name, body) => {
      suites.push(name)
      body()
    },
    it: (name, body) => void tests.set(name, body),
  }
  return { runner, suites, tests }
}

describe('registerCases', () => {
  it('makes a test of each case that fits, in a suite named by the harness', async () => {
    const { runner, suites, tests } = recording()
    await registerCases(cases, runner, () => ({ name: 'mine', able: true }))
    expect(suites).toEqual(['mine'])
    expect([...tests.keys()].slice(0, 3)).toEqual(['works', 'fails', 'needs ability'])
    await tests.get('works')?.()
    await expect(tests.get('fails')?.()).rejects.toThrow('mine fails')
  })

  it('makes one test per reason that names what is left out', async () => {
    const { runner, tests } = recording()
    await registerCases(cases, runner, () => ({ name: 'mine', able: false }))
    const titles = [...tests.keys()].filter((name) => name.startsWith('leaves out'))
    expect(titles).toEqual([
      'leaves out for want of ability: needs ability',
      'leaves out for want of a miracle: needs a miracle',
      'leaves out for want of ability and a miracle: needs both',
    ])
    for (const title of titles) await tests.get(title)?.()
  })

  it('fails the report of what is left out when that is no longer true', async () => {
    let miracles = false
    const { runner, tests } = recording()
    const fickle = [caseNamed('needs luck', [{ what: 'luck', met: () => miracles }])]
    await registerCases(fickle, runner, () => ({ name: 'mine', able: true }))
    miracles = true
    await expect(tests.get('leaves out for want of luck: needs luck')?.()).rejects.toThrow(/false/)
  })

  it('takes the functions of vitest and of node:test', () => {
    const runners: readonly TestRunner[] = [
      { describe, it },
      { describe: nodeDescribe, it: nodeIt },
    ]
    expect(runners).toHaveLength(2)
  })
})
