import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, it } from 'vitest'
import { sqlite } from '../../adapters/sqlite/index.ts'
import { contractCases, pathCases } from './broker/cases.ts'
import { processCases } from './broker/processes/cases.ts'
import { registerCases } from './index.ts'
const folder = mkdtempSync(join(tmpdir(), 'zz-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const file = join(folder, 'x.db')
const which = { contract: contractCases, path: pathCases, process: processCases }[
  process.env['WHICH'] ?? 'contract'
]!
await registerCases(
  which,
  { describe, it: (n: string, b: () => Promise<void>) => it(n, b, 60000) },
  () => ({
    name: 'sqlite',
    connect: () => sqlite({ file }),
    patience: Number(process.env['PATIENCE'] ?? 1),
    shortRetryMs: 60,
    secondProcess: {
      module: fileURLToPath(new URL('../../dist/adapters/sqlite/index.js', import.meta.url)),
      name: 'sqlite',
      options: { file },
    },
  }),
)
