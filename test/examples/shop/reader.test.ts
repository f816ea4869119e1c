import { appendFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { PROCESSES } from '../../../examples/shop/crew.ts'
import { readRun } from '../../../examples/shop/reader.ts'
import { reportText } from '../../../examples/shop/report.ts'
import { files } from '../../../examples/shop/settings.ts'
import { exitCodeOf, judge, NO_FAULTS, type Verdict } from '../../../examples/shop/verdict.ts'
import { chargeOf, FinishedRun, handled } from './finished-run.ts'

const wanted = { processes: PROCESSES.map(({ name }) => name), kills: 3, outages: 1, restarts: 0 }

describe('the independent reader', () => {
  let run: FinishedRun

  beforeEach(async () => {
    run = await FinishedRun.make()
  })
  afterEach(() => run.remove())

  async function verdict(): Promise<Verdict & { readonly exitCode: number }> {
    const judged = judge(await readRun(run.settings), wanted)
    return { ...judged, exitCode: exitCodeOf(judged) }
  }

  /** The one sentence about what was broken. */
  async function broken(): Promise<string> {
    run.addFaults()
    const { broken: sentences, exitCode } = await verdict()
    expect(exitCode).toBe(1)
    expect(sentences).toHaveLength(1)
    return sentences[0] ?? ''
  }

  it('finds the promise kept when it was, faults and all', async () => {
    run.addFaults()
    expect(await verdict()).toEqual({ broken: [], notShown: [], exitCode: 0 })
  })

  it('counts what happened', async () => {
    run.addFaults()
    const findings = await readRun(run.settings)
    expect(findings).toMatchObject({ read: 12, accepted: 12, rejected: 0, published: 12 })
    expect(findings).toMatchObject({ delivered: 12, charged: run.payable.length, retried: 1 })
    expect(findings.redelivered).toEqual({ handled: 1 + run.hopeless.length, duplicates: 0 })
    expect(findings.deadReasons).toEqual({ permanent: run.hopeless.length })
    expect(findings.kills).toEqual({ intake: 3, relay: 3, 'billing-1': 3, 'billing-2': 3 })
    expect(findings.outages).toEqual([{ ms: 2_000, acceptedMeanwhile: 0 }])
    const text = reportText(findings, judge(findings, wanted), 1.25)
    expect(text).toMatch(/charged twice +0 {3}must be 0\nlost +0 {3}must be 0\n/)
    expect(text).toMatch(/kills +12 {3}billing-1 3, billing-2 3, intake 3, relay 3\n/)
    expect(text).toMatch(/The promise was kept\.$/)
  })

  it('does not take a run without faults for a proof', async () => {
    const { broken: sentences, notShown, exitCode } = await verdict()
    expect(exitCode).toBe(2)
    expect(sentences).toEqual([])
    expect(notShown).toContain('relay was killed 0 of 3 times')
    expect(notShown).toContain('the broker was never taken away')
  })

  it('says why the broker could not be taken away', async () => {
    run.history('demo', (history) => {
      history.write('fail', { op: 'outage', reason: 'no such container' })
    })
    const { notShown } = await verdict()
    expect(notShown).toContain('the broker was never taken away: no such container')
  })

  it('asks for no kills where everything runs in one process', async () => {
    expect(exitCodeOf(judge(await readRun(run.settings), NO_FAULTS))).toBe(0)
  })

  it('does not take a run in which nothing was accepted for a proof', async () => {
    run.addFaults()
    await run.shop('DELETE FROM orders', 'DELETE FROM charges')
    const findings = { ...(await readRun(run.settings)), accepted: 0 }
    expect(judge(findings, wanted).notShown).toEqual(['nothing was accepted'])
  })

  it('calls nothing lost that may still be in the broker, and proves nothing by it', async () => {
    run.addFaults()
    const kept = await readRun(run.settings)
    const short = { ...kept, lost: { count: 2, first: ['A-1', 'A-2'] }, leftInBroker: 2 }
    expect(judge(short, wanted).broken).toEqual([])
    expect(exitCodeOf(judge(short, wanted))).toBe(2)
    expect(judge({ ...short, leftInBroker: 1 }, wanted).broken).toEqual(['2 orders lost: A-1, A-2'])
    expect(judge({ ...short, leftInBroker: null }, wanted).broken).toHaveLength(1)
  })

  it('does not take an input that was left halfway for a proof', async () => {
    run.addFaults()
    await run.shop('UPDATE intake SET finished = 0')
    expect((await verdict()).notShown).toEqual(['the input was not taken to its end'])
  })

  it('sees an order charged twice', async () => {
    await run.shop(chargeOf(run.payable[2]!))
    expect(await broken()).toBe(`1 order charged more than once: ${run.payable[2]!.id}`)
  })

  it('sees an order that was never charged', async () => {
    await run.shop(`DELETE FROM charges WHERE order_id = '${run.payable[1]!.id}'`)
    expect(await broken()).toBe(`1 order lost: ${run.payable[1]!.id}`)
  })

  it('sees an order that is still in the outbox', async () => {
    await run.shop(
      `DELETE FROM charges WHERE order_id = '${run.payable[1]!.id}'`,
      'INSERT INTO holdfast_outbox VALUES (1)',
    )
    expect(await broken()).toBe(`1 order lost: ${run.payable[1]!.id}`)
    expect(await readRun(run.settings)).toMatchObject({ published: 11, waiting: 1 })
  })

  it('sees an order whose commit was acknowledged and that is gone', async () => {
    run.history('intake', (history) => {
      history.write('invoke', { op: 'order', id: 'gone', line: 13 })
      history.write('ok', { op: 'order', id: 'gone', line: 13 })
    })
    expect(await broken()).toBe('1 order lost: gone')
  })

  it('does not ask for an order whose commit was not acknowledged', async () => {
    run.history('intake', (history) => history.write('invoke', { op: 'order', id: 'x', line: 13 }))
    run.addFaults()
    expect((await verdict()).exitCode).toBe(0)
  })

  it('sees a charge that nobody ordered, or not like that', async () => {
    await run.shop(`UPDATE charges SET amount = 1 WHERE order_id = '${run.payable[0]!.id}'`)
    expect(await broken()).toMatch(/^1 order charged without being ordered like that/)
  })

  it('sees a message that nobody ordered', async () => {
    const order = { id: 'rolled-back', customer: 'c-9', amount: 1, line: 1 }
    run.history('billing-2', (history) => handled(history, order))
    expect(await broken()).toBe('1 order delivered without being ordered: rolled-back')
  })

  it('sees a delivery before that of an earlier order of the same customer', async () => {
    const late = { id: 'late', customer: 'c-0', amount: 1, line: 1 }
    await run.shop("INSERT INTO orders VALUES ('late', 'c-0', 1, 1)", chargeOf(late))
    await run.shop("UPDATE charges SET line = 99 WHERE order_id = 'late'")
    appendFileSync(run.settings.input.path, '{}\n')
    const { input } = run.settings
    Object.assign(run.settings, { input: { ...input, bytes: input.bytes + 3 } })
    run.history('billing-2', (history) => handled(history, late))
    expect(await broken()).toBe('1 order delivered after a later order of the same customer: late')
  })

  it('sees a charge before that of an earlier order of the same customer', async () => {
    const [order] = run.payable
    await run.shop(`DELETE FROM charges WHERE order_id = '${order!.id}'`, chargeOf(order!))
    expect(await broken()).toBe(
      `1 order charged after a later order of the same customer: ${order!.id}`,
    )
  })

  it('sees a hopeless order that is not in the dead letters', async () => {
    await run.broker('DELETE FROM holdfast_message')
    run.addFaults()
    const { broken: sentences, exitCode } = await verdict()
    expect(exitCode).toBe(1)
    expect(sentences.join()).toContain('refused for ever, but not in the dead letters')
    expect(sentences.join()).toContain('lost')
  })

  it('sees a good order in the dead letters', async () => {
    const [order] = run.payable
    await run.broker(run.deadLetter(order!, 'schema'))
    await run.shop(`DELETE FROM charges WHERE order_id = '${order!.id}'`)
    expect(await broken()).toBe(`1 order in the dead letters without having to be: ${order!.id}`)
  })

  it('sees an order in the dead letters that was charged all the same', async () => {
    await run.shop(chargeOf(run.hopeless[0]!))
    // Its place among the charges is of no importance here.
    await run.shop(`UPDATE charges SET line = 99 WHERE order_id = '${run.hopeless[0]!.id}'`)
    expect(await broken()).toBe(`1 order in the dead letters and charged: ${run.hopeless[0]!.id}`)
  })

  it('sees a message that the relay gave up', async () => {
    await run.shop('INSERT INTO holdfast_outbox_dead VALUES (1)')
    expect(await broken()).toBe('1 messages given up by the relay')
  })

  it('sees a line that was skipped', async () => {
    const { id } = run.payable[0]!
    await run.shop(
      `DELETE FROM orders WHERE id = '${id}'`,
      `DELETE FROM charges WHERE order_id = '${id}'`,
    )
    run.addFaults()
    const text = (await verdict()).broken.join()
    expect(text).toContain('the input has 12 lines, but 11 were accepted and 0 rejected')
  })

  it('counts torn lines of a history and reads the others', async () => {
    run.addFaults()
    appendFileSync(files.history(run.settings.dir, 'relay'), '{"op":"publ\n')
    expect(await readRun(run.settings)).toMatchObject({ torn: 1, accepted: 12 })
  })
})
