import { OptionError } from '../../src/contract/errors.ts'

const DEFAULT_PORT = 9092
const allowed =
  "'host:port', a list of them, or kafka://host:port,host:port; without a port it is 9092"

/**
 * The addresses as `host:port`, from a list, a text with commas or a `kafka://` URL. Throws an
 * `OptionError` that names the first wrong one, without what may be a password in it.
 */
export function resolveAddresses(option: 'brokers' | 'url', given: unknown): readonly string[] {
  const list: readonly unknown[] = Array.isArray(given) ? given : [given]
  const addresses = list.flatMap((one) => texts(option, one)).map((one) => checked(option, one))
  if (addresses.length === 0) throw new OptionError(option, given, `${allowed}; at least one`)
  return Object.freeze([...new Set(addresses)])
}

function texts(option: string, given: unknown): readonly string[] {
  if (typeof given !== 'string') throw new OptionError(option, given, allowed)
  const [, protocol, rest = ''] = /^(?:([a-z+]+):\/\/)?(.*)$/is.exec(given) ?? []
  if (protocol !== undefined && protocol.toLowerCase() !== 'kafka') {
    const why = `${allowed}; encryption is the option tls, not another protocol`
    throw new OptionError(option, addressText(given), why)
  }
  if (rest.includes('@')) {
    const why = 'addresses without user name and password: they go to the option sasl'
    throw new OptionError(option, addressText(given), why)
  }
  return rest
    .replace(/\/$/, '')
    .split(',')
    .map((part) => part.trim())
}

function checked(option: string, text: string): string {
  const [, host, port = String(DEFAULT_PORT)] =
    /^([A-Za-z0-9._-]+)(?::([0-9]{1,5}))?$/.exec(text) ?? []
  const isPort = Number(port) >= 1 && Number(port) <= 65_535
  if (host !== undefined && isPort) return `${host}:${port}`
  // kafkajs takes an address apart at its first colon.
  const why = text.startsWith('[') ? `${allowed}; a host name instead of an IPv6 address` : allowed
  throw new OptionError(option, text, why)
}

/** An address as it may be logged and shown. */
function addressText(address: string): string {
  return address.replace(/^([a-z+]+:\/\/)?.*@/is, '$1')
}

/** Whether nobody but this host can see what goes to that address. */
export function isLoopback(address: string): boolean {
  return /^(localhost|127\.\d+\.\d+\.\d+)(:|$)/i.test(address)
}
