/** `npm run bench`: runs the suites named on the command line, all of them by default. */
import { core } from './core.ts'
import { kafka } from './kafka.ts'
import { memory } from './memory.ts'
import { benchMain } from './main.ts'
import { rabbitmq } from './rabbitmq.ts'
import { sqlite } from './sqlite.ts'

await benchMain([core, sqlite, memory, rabbitmq, kafka])
