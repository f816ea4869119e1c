import { timeOf } from '../../src/contract/time-text.ts'

/** Length of `2025-01-31T23:59:59.123Z`, as we write times, and of the day in it. */
const USUAL = 24
const DAY = 10

const DAY_MS = 86_400_000
const ZERO = 48
const T = 84
const Z = 90
const DOT = 46

let lastDay: Buffer = Buffer.alloc(0)
let lastDayMs = 0

/**
 * Unix milliseconds of a time in a header; `null` when it is none. Times of one day in our own format cost
 * a little arithmetic.
 */
export function timeIn(bytes: Buffer, from: number, to: number): number | null {
  const isUsual = to - from === USUAL && bytes[from + DAY] === T && bytes[to - 1] === Z
  if (!isUsual || bytes[from + 19] !== DOT) return timeOf(bytes.toString('latin1', from, to))
  if (!isLastDay(bytes, from)) {
    const day = bytes.toString('latin1', from, from + DAY)
    const midnight = timeOf(`${day}T00:00:00.000Z`)
    if (midnight === null) return null
    lastDay = Buffer.from(day, 'latin1')
    lastDayMs = midnight
  }
  const seconds = two(bytes, from + 11) * 3_600 + two(bytes, from + 14) * 60 + two(bytes, from + 17)
  const ms = seconds * 1_000 + two(bytes, from + 20) * 10 + digit(bytes, from + 22)
  // Letters among the digits, or an hour that no day has.
  if (ms >= 0 && ms < DAY_MS) return lastDayMs + ms
  return timeOf(bytes.toString('latin1', from, to))
}

function isLastDay(bytes: Buffer, from: number): boolean {
  if (lastDay.length !== DAY) return false
  for (let at = 0; at < DAY; at++) if (lastDay[at] !== bytes[from + at]) return false
  return true
}

function two(bytes: Buffer, at: number): number {
  return digit(bytes, at) * 10 + digit(bytes, at + 1)
}

function digit(bytes: Buffer, at: number): number {
  const value = (bytes[at] as number) - ZERO
  return value >= 0 && value <= 9 ? value : Number.NaN
}
