import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { readLines, type Span } from '../../../examples/shop/read-lines.ts'

describe('readLines', () => {
  let folder = ''
  let file = ''

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'holdfast-lines-'))
    file = join(folder, 'input')
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  async function lines(
    content: string | Buffer,
    span: Partial<Span> = {},
  ): Promise<readonly (readonly [number, string | null, number])[]> {
    const bytes = Buffer.from(content as string)
    writeFileSync(file, bytes)
    const found: [number, string | null, number][] = []
    for await (const line of readLines(file, {
      from: 0,
      to: bytes.length,
      linesBefore: 0,
      ...span,
    })) {
      found.push([line.number, line.bytes?.toString('latin1') ?? null, line.end])
    }
    return found
  }

  it('reads lines with LF and CRLF, empty ones, and a last one without an end', async () => {
    expect(await lines('a\nbb\r\n\nlast')).toEqual([
      [1, 'a', 2],
      [2, 'bb', 6],
      [3, '', 7],
      [4, 'last', 11],
    ])
  })

  it('has no line after the last end', async () => {
    expect(await lines('a\n')).toEqual([[1, 'a', 2]])
    expect(await lines('')).toEqual([])
  })

  it('takes a byte order mark off the first line only', async () => {
    const mark = Buffer.from([0xef, 0xbb, 0xbf])
    const content = Buffer.concat([mark, Buffer.from('a\n'), mark, Buffer.from('b')])
    expect(await lines(content)).toEqual([
      [1, 'a', 5],
      [2, 'ï»¿b', 9],
    ])
  })

  it('goes on at the offset at which an earlier run stopped', async () => {
    const content = 'first\nsecond\nthird\n'
    expect(await lines(content, { from: 6, linesBefore: 1 })).toEqual([
      [2, 'second', 13],
      [3, 'third', 19],
    ])
    expect(await lines(content, { from: content.length, linesBefore: 3 })).toEqual([])
  })

  it('stops where the file ended when it was first looked at', async () => {
    expect(await lines('first\nsecond\n', { to: 6 })).toEqual([[1, 'first', 6]])
  })

  it('gives up a line that is too long, counts its bytes, and reads on behind it', async () => {
    const huge = 'x'.repeat(300_000)
    expect(await lines(`a\n${huge}\nb\n`, { maxBytes: 100 })).toEqual([
      [1, 'a', 2],
      [2, null, 300_003],
      [3, 'b', 300_005],
    ])
    expect(await lines(huge, { maxBytes: 100 })).toEqual([[1, null, 300_000]])
  })

  it('puts a line together that spans several chunks', async () => {
    const long = 'y'.repeat(200_000)
    const [first, second] = await lines(`${long}\r\n${long}`)
    expect(first).toEqual([1, long, 200_002])
    expect(second).toEqual([2, long, 400_002])
  })
})
