import { describe, expect, it } from 'vitest'

import { parseOptions, type DemoOptions } from '../../../examples/shop/options.ts'
import { HELP, UsageError } from '../../../examples/shop/usage.ts'

function parsed(...args: readonly string[]): DemoOptions {
  const options = parseOptions(args)
  if (options === 'help') throw new Error('help was asked for')
  return options
}

function refusal(...args: readonly string[]): string {
  try {
    parseOptions(args)
  } catch (error) {
    if (error instanceof UsageError) return error.message
    throw error
  }
  throw new Error(`${args.join(' ')} was accepted`)
}

describe('parseOptions', () => {
  it('has a default for everything', () => {
    expect(parsed()).toEqual({
      input: null,
      fields: { id: null, key: null, amount: null },
      broker: 'sqlite',
      url: null,
      container: null,
      kills: 3,
      outageMs: 2_000,
      restarts: 0,
      seed: 11,
      rate: 'auto',
      timeoutMs: null,
      dir: null,
      keep: false,
    })
  })

  it('takes standard input, field names, and numbers with their units', () => {
    const options = parsed('--input', '-', '--id', 'order.no', '--outage', '0.5', '--timeout', '90')
    expect(options).toMatchObject({ input: '-', outageMs: 500, timeoutMs: 90_000 })
    expect(options.fields).toEqual({ id: 'order.no', key: null, amount: null })
  })

  it('restarts a broker in a container once, which it starts itself when none is named', () => {
    const options = parsed('--broker', 'rabbitmq')
    expect(options).toMatchObject({ url: null, container: null, restarts: 1 })
    const named = parsed('--broker', 'rabbitmq', '--url', 'amqp://x', '--container', 'y')
    expect(named).toMatchObject({ url: 'amqp://x', container: 'y', restarts: 1 })
  })

  it.each([
    [['--help'], 'help'],
    [['-h', '--fast'], 'help'],
  ])('answers %j with the help', (args, answer) => {
    expect(parseOptions(args)).toBe(answer)
  })

  it('has every option in its help', () => {
    for (const name of ['input', 'id', 'key', 'amount', 'broker', 'url', 'container', 'kills']) {
      expect(HELP).toContain(`--${name} `)
    }
    for (const name of [
      'outage',
      'restarts',
      'seed',
      'rate',
      'fast',
      'timeout',
      'dir',
      'keep',
      'help',
    ]) {
      expect(HELP).toContain(`--${name} `)
    }
  })

  it.each([
    [['--brokr', 'kafka'], "Unknown option '--brokr'"],
    [['orders.ndjson'], "Unexpected argument 'orders.ndjson'"],
    [['--input'], "Option '--input <value>' argument missing"],
    [['--input', ''], '--input is empty'],
    [
      ['--broker', 'redis'],
      '--broker: got "redis"; allowed: sqlite, rabbitmq, kafka, rocketmq, memory',
    ],
    [['--broker', 'rocketmq'], '--broker rocketmq needs --url, for example'],
    [['--url', 'amqp://x'], '--url: the sqlite broker has none'],
    [['--container', 'x'], '--container: the sqlite broker runs in no container'],
    [['--broker', 'rabbitmq', '--container', 'x'], '--container needs --url'],
    [['--restarts', '1'], '--restarts: the sqlite broker is no process of its own'],
    [['--kills', '-1'], '--kills'],
    [['--kills', '1.5'], '--kills: got "1.5"; allowed: a whole number from 0 to 1000'],
    [['--rate', 'fast'], '--rate: got "fast"; allowed: a number from 0.1 to 1000000'],
    [['--timeout', '0'], '--timeout: got "0"; allowed: a number from 1 to 86400'],
    [['--rate', '5', '--fast'], '--rate and --fast contradict each other'],
  ])('refuses %j and says why', (args, text) => {
    expect(refusal(...args)).toContain(text)
  })
})
