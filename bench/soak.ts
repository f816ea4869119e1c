/** `npm run soak`: the memory suite over ten million messages, or `--messages N`. */
import { benchMain } from './main.ts'
import { memory } from './memory.ts'

await benchMain([memory], '10000000')
