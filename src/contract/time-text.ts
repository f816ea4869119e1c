const DAY_MS = 86_400_000
/** Days from 0000-03-01, where eras begin, to 1970-01-01. */
const EPOCH_DAY = 719_468
const ERA_DAYS = 146_097

const pattern = /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:?\d\d)$/

/** What `timeText` writes, and where it has no digits. */
const PLAIN = 'yyyy-mm-ddThh:mm:ss.mmmZ'
const MARKS = [4, 7, 10, 13, 16, 19, 23] as const

let lastDay = Number.NaN
let lastDate = ''

/** Unix milliseconds as RFC 3339 text in UTC, as CloudEvents writes times; exact to the millisecond. */
export function timeText(unixMs: number): string {
  const ms = Math.floor(unixMs)
  const day = Math.floor(ms / DAY_MS)
  if (day !== lastDay) {
    lastDay = day
    lastDate = dateText(day)
  }
  const rest = ms - day * DAY_MS
  const hours = two(Math.floor(rest / 3_600_000))
  const minutes = two(Math.floor(rest / 60_000) % 60)
  const seconds = two(Math.floor(rest / 1_000) % 60)
  return `${lastDate}T${hours}:${minutes}:${seconds}.${String(rest % 1_000).padStart(3, '0')}Z`
}

/** Unix milliseconds of an RFC 3339 text; `null` when it is none. Parts of a millisecond are dropped. */
export function timeOf(text: string): number | null {
  const ms = plainTimeOf(text)
  return Number.isNaN(ms) ? anyTimeOf(text) : ms
}

/** Of a text just as `timeText` writes it, which nearly every one is that is read; NaN of any other. */
function plainTimeOf(text: string): number {
  if (text.length !== PLAIN.length) return Number.NaN
  for (const at of MARKS) if (text.charCodeAt(at) !== PLAIN.charCodeAt(at)) return Number.NaN
  const day = dayOf(digits(text, 0, 4), digits(text, 5, 7), digits(text, 8, 10))
  const atMinute = (day * 24 + digits(text, 11, 13)) * 60 + digits(text, 14, 16)
  return (atMinute * 60 + digits(text, 17, 19)) * 1_000 + digits(text, 20, 23)
}

/** NaN when one of them is none. */
function digits(text: string, from: number, to: number): number {
  let value = 0
  for (let at = from; at < to; at++) {
    const digit = text.charCodeAt(at) - 48
    if (digit < 0 || digit > 9) return Number.NaN
    value = value * 10 + digit
  }
  return value
}

function anyTimeOf(text: string): number | null {
  const parts = pattern.exec(text)
  if (parts === null) return null
  const [year, month, day, hours, minutes, seconds] = parts.slice(1, 7).map(Number)
  const ms = Number((parts[7] ?? '').padEnd(3, '0').slice(0, 3))
  const atMinute = (dayOf(year!, month!, day!) * 24 + hours!) * 60 + minutes!
  return ((atMinute - offsetMinutes(parts[8] as string)) * 60 + seconds!) * 1_000 + ms
}

/** Civil date of a day since 1970, by eras of 400 years that begin in March. */
function dateText(day: number): string {
  const shifted = day + EPOCH_DAY
  const era = Math.floor(shifted / ERA_DAYS)
  const ofEra = shifted - era * ERA_DAYS
  const leaps = Math.floor(ofEra / 1_460) - Math.floor(ofEra / 36_524) + Math.floor(ofEra / 146_096)
  const yearOfEra = Math.floor((ofEra - leaps) / 365)
  const ofYear = ofEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100))
  const fromMarch = Math.floor((5 * ofYear + 2) / 153)
  const date = ofYear - Math.floor((153 * fromMarch + 2) / 5) + 1
  const month = fromMarch < 10 ? fromMarch + 3 : fromMarch - 9
  const year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
  return `${String(year).padStart(4, '0')}-${two(month)}-${two(date)}`
}

function dayOf(year: number, month: number, date: number): number {
  const shifted = month <= 2 ? year - 1 : year
  const era = Math.floor(shifted / 400)
  const yearOfEra = shifted - era * 400
  const ofYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + date - 1
  const ofEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + ofYear
  return era * ERA_DAYS + ofEra - EPOCH_DAY
}

function offsetMinutes(zone: string): number {
  if (zone === 'Z' || zone === 'z') return 0
  const minutes = Number(zone.slice(1, 3)) * 60 + Number(zone.slice(-2))
  return zone.startsWith('-') ? -minutes : minutes
}

function two(value: number): string {
  return value < 10 ? `0${value}` : String(value)
}
