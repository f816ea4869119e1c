/** Resident memory after so many messages. */
export interface RssSample {
  readonly messages: number
  readonly rssMiB: number
}

/** Resident memory of this process now, after a full collection where node runs with --expose-gc. */
export function rssMiB(): number {
  globalThis.gc?.()
  return process.memoryUsage.rss() / 2 ** 20
}

/** MiB gained per 100 000 messages: least squares over the samples after the first fifth. */
export function slopePer100000(samples: readonly RssSample[]): number {
  const settled = samples.slice(Math.floor(samples.length / 5))
  const xs = settled.map(({ messages }) => messages / 100_000)
  const ys = settled.map(({ rssMiB: y }) => y)
  const meanX = mean(xs)
  const meanY = mean(ys)
  const covariance = mean(xs.map((x, at) => (x - meanX) * ((ys[at] ?? meanY) - meanY)))
  return covariance / mean(xs.map((x) => (x - meanX) ** 2))
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}
