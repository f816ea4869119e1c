import { describe, it } from 'vitest'

import { brokerCases, inParallel, registerCases } from '../../conformance/index.ts'
import { harness } from './harness.ts'

const runner = { describe, it }

// Twenty cases that make a mebibyte each keep one core busy for a while.
await registerCases(inParallel(brokerCases, 20), runner, () => harness('memory, 20 at once', {}, 4))
