import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { buildDemo, numberOf, runDemo, startDemo } from './run-demo.ts'

const GARBAGE = ['not json', '[1,2]', '{"no":1}', '', '{"no":1,"cost":"much","who":{"id":1}}']

/** Orders as some other shop would write them, every tenth line of no use, some ids twice. */
function foreignOrders(lines: number): { readonly text: string; readonly good: number } {
  const ids = new Set<number>()
  const all = Array.from({ length: lines }, (_, index) => {
    if (index % 10 === 9) return GARBAGE[((index / 10) % GARBAGE.length) | 0] ?? ''
    const no = index % 50 === 7 ? 1_000 : 1_000 + index
    ids.add(no)
    return JSON.stringify({ no, cost: `${index}.50`, who: { id: index % 17, name: 'ü' } })
  })
  return { text: `\uFEFF${all.join('\r\n')}`, good: ids.size }
}

describe('npm run demo', () => {
  let folder = ''

  beforeAll(() => {
    buildDemo()
    folder = mkdtempSync(join(tmpdir(), 'holdfast-demo-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  function file(name: string, content: string | Buffer): string {
    const place = join(folder, name)
    writeFileSync(place, content)
    return place
  }

  it('charges each of the sample orders once, whatever is killed', async () => {
    const run = await runDemo([])
    expect(run.out).toContain('The promise was kept.')
    expect(run.exitCode).toBe(0)
    expect(numberOf(run, 'accepted')).toBe(5_000)
    expect(numberOf(run, 'charged') + numberOf(run, 'dead-lettered')).toBe(5_000)
    expect(numberOf(run, 'kills')).toBe(12)
    expect(numberOf(run, 'outages')).toBe(1)
    expect(run.out).not.toContain('crashes')
  })

  it('takes orders that were not made for it, and says what it rejects', async () => {
    const { text, good } = foreignOrders(400)
    const input = file('foreign.ndjson', text)
    const fields = ['--id', 'no', '--key', 'who.id', '--amount', 'cost']
    const run = await runDemo(['--input', input, ...fields, '--seed', '5'])
    expect(run.out).toContain('The promise was kept.')
    expect(run.exitCode).toBe(0)
    expect(numberOf(run, 'accepted')).toBe(good)
    expect(run.out).toContain('rejected line 10: not JSON')
    expect(run.out).toContain('rejected line 20: JSON, but not an object')
    expect(run.out).toContain('rejected line 30: field "who.id"')
    expect(run.out).toContain('rejected line 50: field "amount"'.replace('amount', 'cost'))
    expect(run.out).toContain('rejected line 58: duplicate id "1000"')
    expect(run.out).toMatch(/… and \d+ more \(the first 20 are shown\)/)
  })

  it('runs in one process with the memory broker, and says so', async () => {
    const { text, good } = foreignOrders(300)
    const fields = ['--id', 'no', '--key', 'who.id', '--amount', 'cost']
    const run = await runDemo(['--broker', 'memory', '--fast', '--input', '-', ...fields], text)
    expect(run.out).toContain('nothing is killed or taken away')
    expect(run.out).toContain('The promise was kept.')
    expect(run.exitCode).toBe(0)
    expect(numberOf(run, 'accepted')).toBe(good)
    expect(numberOf(run, 'kills')).toBe(0)
  })

  it('does not call a run without faults a proof', async () => {
    const { text } = foreignOrders(60)
    const input = file('few.ndjson', text)
    const fields = ['--id', 'no', '--key', 'who.id', '--amount', 'cost', '--fast']
    const run = await runDemo(['--input', input, ...fields, '--kills', '0', '--outage', '0'])
    expect(run.exitCode).toBe(2)
    expect(run.out).toContain('billing-1 was killed 0 of 3 times')
    expect(run.out).toContain('the broker was never taken away')
  })

  it('ends with 2 when nothing can be accepted', async () => {
    const input = file('noise', Buffer.from([0xff, 0xfe, 0x0a, 0x7b, 0x0a, 0x0a]))
    const run = await runDemo(['--input', input, '--fast'])
    expect(run.exitCode).toBe(2)
    expect(run.out).toContain('rejected line 1: not valid UTF-8')
    expect(run.out).toContain('rejected line 2: not JSON')
    expect(run.out).toContain('nothing was accepted')
  })

  it.each([
    [['--colour'], "Unknown option '--colour'"],
    [['--input', '/nowhere/orders'], '--input /nowhere/orders does not exist'],
    [['--input', '.'], '--input . is a folder'],
    [['--key', 'buyer'], 'has a field "buyer"'],
    [['--dir', '.'], '--dir .: holds files already'],
    [['--broker', 'rocketmq'], '--broker rocketmq needs --url'],
  ])('ends with 64 for %j', async (args, text) => {
    const run = await runDemo(args)
    expect(run.exitCode).toBe(64)
    expect(run.err).toContain(text)
    expect(run.out).not.toContain('The promise')
  })

  it('leaves nothing behind when it is interrupted', async () => {
    const demo = startDemo([])
    const ended = once(demo, 'exit')
    let said = ''
    demo.stdout?.on('data', (chunk: Buffer) => (said += chunk.toString()))
    await until(() => said.includes('logs: '))
    const dir = /logs: (.+)/.exec(said)?.[1] ?? ''
    await until(() => startedWorkers(dir).length === 4)
    const workers = startedWorkers(dir)
    demo.kill('SIGTERM')
    expect(await ended).toEqual([143, null])
    await until(() => workers.every((pid) => !isRunning(pid)))
    expect(existsSync(dir)).toBe(false)
  })

  it('leaves nothing behind when it is killed itself', async () => {
    const dir = join(folder, 'killed')
    const demo = startDemo(['--dir', dir])
    const ended = once(demo, 'exit')
    await until(() => startedWorkers(dir).length === 4)
    demo.kill('SIGKILL')
    expect(await ended).toEqual([null, 'SIGKILL'])
    await until(() => startedWorkers(dir).every((pid) => !isRunning(pid)))
  })
})

/** Process ids of the shop's processes, from their histories. */
function startedWorkers(dir: string): readonly number[] {
  if (!existsSync(dir)) return []
  const histories = readdirSync(dir).filter((name) => name.endsWith('.history.ndjson'))
  return histories.flatMap((name) => {
    const [first = ''] = readFileSync(join(dir, name), 'utf8').split('\n')
    return first.includes('"op":"start"') ? [(JSON.parse(first) as { pid: number }).pid] : []
  })
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch {
    return false
  }
  // One that has ended and that nobody has asked about yet is still there, as a zombie.
  const stat = `/proc/${pid}/stat`
  return !existsSync(stat) || !/\) Z /.test(readFileSync(stat, 'utf8'))
}

async function until(holds: () => boolean): Promise<void> {
  const giveUpAt = performance.now() + 20_000
  while (!holds()) {
    if (performance.now() > giveUpAt) throw new Error('waited for 20 s in vain')
    await sleep(50)
  }
}
