import { draw } from './chance.ts'
import { History, type HistoryEvent } from './history.ts'
import { killPlan, type PlannedKill } from './kill-plan.ts'
import type { View } from './live-view.ts'
import { Outage } from './outage.ts'
import { Restart } from './restart.ts'
import type { RunPlan } from './run-plan.ts'
import { files } from './settings.ts'
import type { Running } from './watch.ts'
import { WorkerProcess } from './worker-process.ts'

/** The four processes of the shop. */
export const PROCESSES = [
  { name: 'intake', role: 'intake' },
  { name: 'relay', role: 'relay' },
  { name: 'billing-1', role: 'billing' },
  { name: 'billing-2', role: 'billing' },
] as const

const STOP_MS = 15_000

interface Member {
  readonly process: WorkerProcess
  readonly plan: PlannedKill[]
  killing: NodeJS.Timeout | undefined
}

/** The processes of the shop and what is done to them. */
export class Crew implements Running {
  lastSignOfLife: number = performance.now()
  trouble: string | null = null

  readonly #bytes: number
  /** Messages that went to the dead letters, as the histories say. */
  readonly #dead = new Set<string>()
  readonly #history: History
  readonly #members: readonly Member[]
  readonly #outage: Outage
  readonly #restart: Restart
  /** When each of them happens, as a share of the input; one at a time. */
  readonly #away: { readonly at: number; readonly happen: () => Promise<void> }[] = []
  #awayEnded: Promise<void> = Promise.resolve()

  constructor(plan: RunPlan) {
    const { settings, seed } = plan
    const { dir, input } = settings
    this.#bytes = Math.max(1, input.bytes)
    this.#history = new History(files.history(dir, 'demo'), 'demo')
    this.#members = PROCESSES.map(({ name, role }) => ({
      process: new WorkerProcess(name, role, dir, this.#history),
      plan: [...killPlan(seed, name, plan.kills)],
      killing: undefined,
    }))
    this.#outage = new Outage(settings, plan.container, plan.outageMs)
    this.#restart = new Restart(settings, plan.container)
    if (plan.outageMs > 0) {
      this.#away.push({ at: 0.3 + draw(seed, 'outage') * 0.2, happen: () => this.#takeAway() })
    }
    if (plan.restarts > 0) {
      const at = 0.55 + draw(seed, 'restart') * 0.2
      this.#away.push({ at, happen: () => this.#restart.happen() })
    }
  }

  get counts(): { readonly dead: number; readonly kills: number } {
    const kills = this.#members.reduce((sum, { process }) => sum + process.kills, 0)
    return { dead: this.#dead.size, kills }
  }

  get calm(): boolean {
    const busy = this.#members.some(
      (one) => one.killing !== undefined || one.process.givenUp !== null,
    )
    return this.#members[0]?.process.finished === true && !busy && !this.#isAway
  }

  get now(): string {
    if (this.#outage.going) return 'broker taken away'
    if (this.#restart.going) return 'broker restarting'
    const down = this.#members.filter(({ process }) => !process.running && !process.finished)
    return down.length === 0 ? '' : `${down.map(({ process }) => process.name).join(', ')} killed`
  }

  start(): void {
    for (const { process } of this.#members) process.start()
  }

  tick(view: View): void {
    for (const member of this.#members) {
      member.process.observe((event) => this.#notice(event))
      this.trouble ??= member.process.givenUp
      this.#killWhenDue(member, view)
    }
    this.#takeAwayWhenDue(view)
  }

  /** Stops every process; returns those that did not end by themselves. */
  async stop(): Promise<readonly string[]> {
    for (const member of this.#members) clearTimeout(member.killing)
    const ended = await Promise.all(this.#members.map(({ process }) => process.stop(STOP_MS)))
    for (const { process } of this.#members) process.observe((event) => this.#notice(event))
    this.#outage.abandon()
    this.#restart.abandon()
    await this.#awayEnded
    this.#history.close()
    return this.#members.flatMap(({ process }, index) => (ended[index] ? [] : [process.name]))
  }

  /** Ends everything at once, for when the demo is interrupted. */
  abandon(): void {
    for (const { process, killing } of this.#members) {
      clearTimeout(killing)
      process.abandon()
    }
    this.#outage.abandon()
    this.#restart.abandon()
  }

  get #isAway(): boolean {
    return this.#outage.going || this.#restart.going
  }

  #notice(event: HistoryEvent): void {
    this.lastSignOfLife = performance.now()
    if (event.op === 'dead' && event.message !== null) this.#dead.add(event.message)
  }

  #killWhenDue(member: Member, view: View): void {
    const { process, plan } = member
    const [next] = plan
    if (next === undefined || member.killing !== undefined) return
    // A process that did nothing since it was started proves nothing by being killed.
    if (process.workedSinceStart === 0 || this.#shareOf(process.name, view) < next.at) return
    plan.shift()
    member.killing = setTimeout(() => {
      member.killing = undefined
      // It had ended by itself meanwhile: another time.
      if (!process.kill()) plan.unshift(next)
    }, next.delayMs)
  }

  /** Share of its work that a process has done, as far as one can tell before the end. */
  #shareOf(name: string, view: View): number {
    const { accepted, waiting, charged, nextByte } = view
    const taken = nextByte / this.#bytes
    if (name === 'intake') return taken
    const done = name === 'relay' ? accepted - waiting : charged + this.#dead.size
    return (taken * done) / Math.max(1, accepted)
  }

  #takeAwayWhenDue(view: View): void {
    const [next] = this.#away
    if (next === undefined || this.#isAway || this.#shareOf('intake', view) < next.at) return
    this.#away.shift()
    this.#awayEnded = next.happen()
  }

  async #takeAway(): Promise<void> {
    try {
      await this.#outage.happen()
    } catch (error) {
      this.#history.write('fail', { op: 'outage', reason: (error as Error).message })
    }
  }
}
