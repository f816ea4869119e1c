import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Where the sample orders are: in the package, whether this file is run from there or from `dist/`. */
export function samplePath(): string {
  const start = dirname(fileURLToPath(import.meta.url))
  for (let folder = start; ; folder = dirname(folder)) {
    const sample = join(folder, 'examples', 'shop', 'orders.ndjson')
    if (existsSync(sample)) return sample
    if (dirname(folder) === folder)
      throw new Error(`examples/shop/orders.ndjson is not above ${start}`)
  }
}
