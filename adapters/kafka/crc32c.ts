const POLYNOMIAL = 0x82f63b78
/** Bytes taken in one step. */
const STEP = 8

/** One table of 256 for each byte of a step: what it does to the sum when that many bytes follow it. */
const tables: Int32Array = makeTables()

function makeTables(): Int32Array {
  const made = new Int32Array(256 * STEP)
  for (let byte = 0; byte < 256; byte++) {
    let sum = byte
    for (let bit = 0; bit < 8; bit++) sum = sum & 1 ? (sum >>> 1) ^ POLYNOMIAL : sum >>> 1
    made[byte] = sum
  }
  for (let at = 256; at < made.length; at++) {
    const before = made[at - 256] as number
    made[at] = (before >>> 8) ^ (made[before & 0xff] as number)
  }
  return made
}

/** CRC-32C (Castagnoli) of a range, unsigned: the sum that Kafka's record batches carry. */
export function crc32c(bytes: Uint8Array, from: number, to: number): number {
  const t = tables
  let crc = -1
  let at = from
  for (; at + STEP <= to; at += STEP) {
    crc ^=
      (bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)
    crc =
      (t[1792 + (crc & 0xff)] as number) ^
      (t[1536 + ((crc >>> 8) & 0xff)] as number) ^
      (t[1280 + ((crc >>> 16) & 0xff)] as number) ^
      (t[1024 + (crc >>> 24)] as number) ^
      (t[768 + (bytes[at + 4] as number)] as number) ^
      (t[512 + (bytes[at + 5] as number)] as number) ^
      (t[256 + (bytes[at + 6] as number)] as number) ^
      (t[bytes[at + 7] as number] as number)
  }
  for (; at < to; at++) {
    crc = (t[(crc ^ (bytes[at] as number)) & 0xff] as number) ^ (crc >>> 8)
  }
  return (crc ^ -1) >>> 0
}
