/**
 * Calls `work` once for each index below `count`, from `concurrency` workers that each wait for
 * their call before they make the next, as callers of a publisher do.
 */
export async function withWorkers(
  concurrency: number,
  count: number,
  work: (index: number) => Promise<unknown>,
): Promise<void> {
  let next = 0
  async function worker(): Promise<void> {
    while (next < count) await work(next++)
  }
  await Promise.all(Array.from({ length: concurrency }, worker))
}
