import * as zlib from 'node:zlib'

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { Codecs } from '../../../adapters/kafka/codecs.ts'

const numbers = { gzip: 1, snappy: 2, lz4: 3, zstd: 4 } as const

/** As Node from 22.15 on has it: here by gzip, since only the calls matter. */
const newNode = { ...zlib, zstdCompress: zlib.gzip, zstdDecompress: zlib.gunzip } as typeof zlib

async function missing(): Promise<never> {
  throw new Error("Cannot find package 'it'")
}

describe('the codecs of batches', () => {
  it.each(['gzip', 'snappy', 'lz4'] as const)('%s reads what it wrote', async (name) => {
    const codecs = new Codecs()
    const codec = await codecs.writing(name)
    expect(codec?.type).toBe(numbers[name])
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.uint8Array({ maxLength: 3_000 }),
          fc.tuple(fc.string({ maxLength: 40 }), fc.nat({ max: 300 })).map(([text, times]) => {
            return Buffer.from(text.repeat(times))
          }),
        ),
        async (bytes) => {
          const compressed = await codec!.compress(Buffer.from(bytes))
          const again = await codecs.decompress(numbers[name], compressed)
          expect(again.equals(Buffer.from(bytes))).toBe(true)
        },
      ),
    )
  })

  it('lz4 has blocks of four megabytes that stand alone', async () => {
    const codecs = new Codecs()
    const codec = await codecs.writing('lz4')
    const bytes = Buffer.alloc(9_000_000, 'abcdefghij')
    const compressed = await codec!.compress(bytes)
    expect(compressed.length).toBeLessThan(100_000)
    expect((await codecs.decompress(numbers.lz4, compressed)).equals(bytes)).toBe(true)
  })

  it('has none for batches that are not compressed', async () => {
    expect(await new Codecs().writing('none')).toBeNull()
    await new Codecs().checkReading('producer')
    await new Codecs().checkReading('uncompressed')
  })

  it('takes zstd from Node where Node has it', async () => {
    const codecs = new Codecs(missing, newNode)
    const codec = await codecs.writing('zstd')
    const compressed = await codec!.compress(Buffer.from('records'))
    expect(String(await codecs.decompress(numbers.zstd, compressed))).toBe('records')
  })

  it('reads zstd by a package where Node has it not, and says that it cannot write it', async () => {
    const oldNode = { ...zlib, zstdCompress: undefined } as unknown as typeof zlib
    const decompress = (bytes: Buffer): Uint8Array => zlib.gunzipSync(bytes)
    const codecs = new Codecs(async () => ({ decompress }), oldNode)
    const compressed = zlib.gzipSync('records')
    expect(String(await codecs.decompress(numbers.zstd, compressed))).toBe('records')
    await expect(codecs.writing('zstd')).rejects.toMatchObject({
      code: 'missing-package',
      message: expect.stringContaining('Node 22.15') as string,
    })
  })

  it.each([
    ['snappy', 'npm install kafkajs-snappy'],
    ['lz4', 'npm install lz4js'],
    ['zstd', 'npm install fzstd'],
  ] as const)('says what to install for %s', async (name, command) => {
    const oldNode = { ...zlib, zstdCompress: undefined } as unknown as typeof zlib
    const codecs = new Codecs(missing, oldNode)
    const error = { code: 'missing-package', message: expect.stringContaining(command) as string }
    await expect(codecs.writing(name)).rejects.toMatchObject(error)
    await expect(codecs.checkReading(name)).rejects.toMatchObject(error)
    const read = codecs.decompress(numbers[name], Buffer.from('x'))
    await expect(read).rejects.toMatchObject(error)
  })

  it('finds a package that was installed meanwhile', async () => {
    let isInstalled = false
    const codecs = new Codecs(async () => {
      if (!isInstalled) throw new Error('not there')
      return { decompress: (bytes: Buffer) => bytes }
    })
    await expect(codecs.checkReading('lz4')).rejects.toThrow('lz4js')
    isInstalled = true
    await codecs.checkReading('lz4')
  })

  it('names what it cannot read', async () => {
    const codecs = new Codecs()
    for (const type of [1, 2, 3]) {
      await expect(codecs.decompress(type, Buffer.from('damaged'))).rejects.toMatchObject({
        code: 'codec',
      })
    }
    await expect(codecs.decompress(7, Buffer.from('x'))).rejects.toThrow('codec number 7')
  })
})
