import { promisify } from 'node:util'
import * as zlib from 'node:zlib'

import { HoldfastError } from '../../src/contract/errors.ts'
import type { BatchCodec } from './batch-writer.ts'
import { frameLz4, type Lz4Block } from './lz4-frame.ts'
import type { Compression } from './options.ts'

/** A codec by its name in Kafka's settings. */
export type CodecName = Exclude<Compression, 'none'>

/** Both directions of one codec. `compress` is `null` where only reading is possible. */
interface Codec {
  readonly compress: ((bytes: Buffer) => Promise<Buffer>) | null
  readonly decompress: (bytes: Buffer) => Promise<Buffer>
}

/** Kafka's numbers of the codecs. */
const numbers: Readonly<Record<CodecName, number>> = { gzip: 1, snappy: 2, lz4: 3, zstd: 4 }

/** How a package is asked for; tests put their own in its place. */
export type LoadPackage = (name: string) => Promise<unknown>

const packages: Readonly<Record<string, () => Promise<unknown>>> = {
  'kafkajs-snappy': () => import('kafkajs-snappy'),
  lz4js: () => import('lz4js'),
  fzstd: () => import('fzstd'),
}

/**
 * The codecs of record batches: gzip is Node's own, so is zstd from Node 22.15 on; the others are
 * packages, which are loaded when the first batch of theirs is read or written.
 */
export class Codecs {
  readonly #load: LoadPackage
  readonly #zlib: typeof zlib
  readonly #loaded = new Map<CodecName, Promise<Codec>>()

  constructor(
    load: LoadPackage = (name) => packages[name]?.() ?? Promise.reject(new Error(name)),
    node: typeof zlib = zlib,
  ) {
    this.#load = load
    this.#zlib = node
  }

  /**
   * The codec batches are written with; `null` for none. Rejects with code `missing-package`, and says
   * what to install.
   */
  async writing(compression: Compression): Promise<BatchCodec | null> {
    if (compression === 'none') return null
    const { compress } = await this.#codec(compression)
    if (compress === null) throw missing(compression, 'writing')
    return { type: numbers[compression], compress }
  }

  /** Rejects like `writing` when batches of that codec could not be read; names that are none are fine. */
  async checkReading(compression: string): Promise<void> {
    if (Object.hasOwn(numbers, compression)) await this.#codec(compression as CodecName)
  }

  /**
   * Makes the records of a batch readable. Rejects with code `missing-package`, which says what to
   * install, or with code `codec` for bytes that are damaged.
   */
  async decompress(type: number, bytes: Buffer): Promise<Buffer> {
    const name = (Object.keys(numbers) as CodecName[]).find((one) => numbers[one] === type)
    if (name === undefined) throw new HoldfastError('codec', `there is no codec number ${type}`)
    const { decompress } = await this.#codec(name)
    try {
      return await decompress(bytes)
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause)
      throw new HoldfastError('codec', `a batch of ${name} cannot be read: ${why}`, { cause })
    }
  }

  #codec(name: CodecName): Promise<Codec> {
    let codec = this.#loaded.get(name)
    if (codec === undefined) {
      codec = this.#make(name)
      this.#loaded.set(name, codec)
      // Installed meanwhile, it is found by the next try.
      codec.catch(() => this.#loaded.delete(name))
    }
    return codec
  }

  async #make(name: CodecName): Promise<Codec> {
    try {
      if (name === 'gzip') return gzip
      if (name === 'zstd') return nodeZstd(this.#zlib) ?? fzstd(await this.#load('fzstd'))
      if (name === 'snappy') return snappy(await this.#load('kafkajs-snappy'))
      return lz4(await this.#load('lz4js'))
    } catch (cause) {
      throw missing(name, 'reading', cause)
    }
  }
}

const gzip: Codec = {
  compress: promisify<Buffer, Buffer>(zlib.gzip),
  decompress: promisify<Buffer, Buffer>(zlib.gunzip),
}

type Zlib = (bytes: Buffer, done: (error: Error | null, result: Buffer) => void) => void

function nodeZstd(node: object): Codec | null {
  const { zstdCompress, zstdDecompress } = node as { zstdCompress?: Zlib; zstdDecompress?: Zlib }
  if (zstdCompress === undefined || zstdDecompress === undefined) return null
  return { compress: promisify(zstdCompress), decompress: promisify(zstdDecompress) }
}

function fzstd(loaded: unknown): Codec {
  const { decompress } = exportsOf(loaded) as { decompress: (bytes: Buffer) => Uint8Array }
  return { compress: null, decompress: async (bytes) => asBuffer(decompress(bytes)) }
}

/** As kafkajs takes a codec; the encoder is asked for its bytes alone. */
interface KafkajsCodec {
  compress(encoder: { readonly buffer: Buffer }): Promise<Uint8Array>
  decompress(bytes: Buffer): Promise<Uint8Array>
}

function snappy(loaded: unknown): Codec {
  const codec = (exportsOf(loaded) as () => KafkajsCodec)()
  return {
    compress: async (buffer) => asBuffer(await codec.compress({ buffer })),
    decompress: async (bytes) => asBuffer(await codec.decompress(bytes)),
  }
}

function lz4(loaded: unknown): Codec {
  const library = exportsOf(loaded) as { decompress: (bytes: Buffer) => Uint8Array } & Lz4Block
  return {
    compress: async (bytes) => frameLz4(bytes, library),
    decompress: async (bytes) => asBuffer(library.decompress(bytes)),
  }
}

/** Packages of the old kind are the default export of what `import` gives. */
function exportsOf(loaded: unknown): unknown {
  return (loaded as { default?: unknown }).default ?? loaded
}

function asBuffer(bytes: Uint8Array): Buffer {
  if (Buffer.isBuffer(bytes)) return bytes
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

const advice: Readonly<Record<CodecName, string>> = {
  gzip: '',
  snappy: 'npm install kafkajs-snappy',
  lz4: 'npm install lz4js',
  zstd: 'use Node 22.15 or later, or, for reading alone, npm install fzstd',
}

function missing(name: CodecName, doing: 'reading' | 'writing', cause?: unknown): HoldfastError {
  const text = `${doing} batches that are compressed with ${name} needs something more: ${advice[name]}`
  return new HoldfastError('missing-package', text, { cause })
}
