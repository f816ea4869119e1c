import { createHash } from 'node:crypto'

/** A number in [0, 1) that depends on nothing but the texts: the same in every process and every run. */
export function draw(...texts: readonly (string | number)[]): number {
  return createHash('sha256').update(texts.join('\0')).digest().readUInt32BE(0) / 2 ** 32
}
