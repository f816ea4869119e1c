import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { lookAt, seekableInput, type Input } from '../../../examples/shop/input.ts'
import type { GivenFields } from '../../../examples/shop/options.ts'
import { samplePath } from '../../../examples/shop/sample.ts'
import { UsageError } from '../../../examples/shop/usage.ts'

const nothing: GivenFields = { id: null, key: null, amount: null }

describe('lookAt', () => {
  let folder = ''

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'holdfast-input-'))
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  function look(content: string, given: Partial<GivenFields> = {}): Promise<Input> {
    const file = join(folder, 'input')
    writeFileSync(file, content)
    return lookAt(file, { ...nothing, ...given })
  }

  it('detects usual names, also when the first lines are of no use', async () => {
    const input = await look('oops\n{}\n{"order_id":1,"user_id":2,"total":"3"}\n')
    expect(input.fields).toEqual({ id: 'order_id', key: 'user_id', amount: 'total' })
    expect(input).toMatchObject({ orders: 1, sampledIds: ['1'] })
  })

  it('takes the names given', async () => {
    const line = '{"id":"x","n":1,"who":{"is":"a"},"amount":0,"cost":2}'
    const given = { id: 'n', key: 'who.is', amount: 'cost' }
    expect((await look(line, given)).fields).toEqual(given)
  })

  it('says which fields there are when the wanted ones are not', async () => {
    const looking = look('{"ref":"x","who":{"name":"a"},"list":[1],"no":null}\n')
    await expect(looking).rejects.toThrow(UsageError)
    await expect(looking).rejects.toThrow(
      /none of the first 1 objects of .*input has a field "id", "orderId"[^]*name one with --id; they have: ref, who\.name, list\.0/,
    )
    await expect(look('{"id":1}\n', { key: 'who' })).rejects.toThrow(/a field "who"\n.*--key/)
  })

  it('leaves an input without objects to the intake, which rejects every line', async () => {
    expect(await look('a\nb\n')).toMatchObject({ orders: 0, sampledIds: [] })
    expect(await look('')).toMatchObject({ orders: 0, bytes: 0 })
  })

  it('estimates the orders of an input that is too long to look at', async () => {
    const line = (n: number): string => `{"id":${100_000 + n},"customer":1,"amount":1}\n`
    const content = Array.from({ length: 20_000 }, (_, n) => line(n)).join('')
    expect(await look(content)).toMatchObject({ orders: 20_000 })
  })

  it('finds 5 000 orders in the sample', async () => {
    expect(await lookAt(samplePath(), nothing)).toMatchObject({
      orders: 5_000,
      fields: { id: 'id', key: 'customer', amount: 'amount' },
    })
  })
})

describe('seekableInput', () => {
  let folder = ''

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'holdfast-input-'))
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  const never = new AbortController().signal

  it('uses a file as it is, and copies what is a stream', async () => {
    const file = join(folder, 'orders')
    writeFileSync(file, 'x')
    expect(await seekableInput(file, join(folder, 'copy'), never)).toBe(file)
    expect(await seekableInput('/dev/null', join(folder, 'copy'), never)).toBe(join(folder, 'copy'))
    expect(readFileSync(join(folder, 'copy'), 'utf8')).toBe('')
  })

  it('says what is wrong with a path', async () => {
    const missing = join(folder, 'missing')
    await expect(seekableInput(missing, '', never)).rejects.toThrow(/missing does not exist/)
    await expect(seekableInput(folder, '', never)).rejects.toThrow(/is a folder; give a file/)
  })
})
