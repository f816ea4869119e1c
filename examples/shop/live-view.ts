import { EmbeddedBroker } from './embedded-broker.ts'
import { files, type Settings } from './settings.ts'
import { openPlain, type PlainDatabase } from './sql.ts'

/** How far the shop is, as its databases say. */
export interface View {
  readonly accepted: number
  readonly rejected: number
  readonly nextByte: number
  readonly finished: boolean
  /** Messages in the outbox. */
  readonly waiting: number
  readonly charged: number
  /** Messages in the broker that are not finished; null when the broker is not the embedded one. */
  readonly inBroker: number | null
}

const VIEW = `
  SELECT accepted, rejected, next_byte, finished,
    (SELECT count(*) FROM holdfast_outbox) AS waiting,
    (SELECT coalesce(max(id), 0) FROM charges) AS charged
  FROM intake`

/** Looks at the shop's databases while they are written. */
export class LiveView {
  readonly #shop: PlainDatabase
  readonly #broker: EmbeddedBroker | null

  private constructor(shop: PlainDatabase, broker: EmbeddedBroker | null) {
    this.#shop = shop
    this.#broker = broker
  }

  static async open({ dir }: Settings): Promise<LiveView> {
    const shop = await openPlain(files.shop(dir), { readOnly: true, busyMs: 5_000 })
    return new LiveView(shop, await EmbeddedBroker.open(dir))
  }

  look(): View {
    const [row = {}] = this.#shop.all(VIEW)
    return {
      accepted: Number(row.accepted),
      rejected: Number(row.rejected),
      nextByte: Number(row.next_byte),
      finished: row.finished === 1,
      waiting: Number(row.waiting),
      charged: Number(row.charged),
      inBroker: this.#broker?.waiting() ?? null,
    }
  }

  close(): void {
    this.#shop.close()
    this.#broker?.close()
  }
}
