/** `npm run soak`: the memory cases over ten million messages, or `--messages N`. */
import { kafkaSoak } from './kafka-memory.ts'
import { benchMain } from './main.ts'
import { memory } from './memory.ts'
import { rabbitmqSoak } from './rabbitmq-memory.ts'

await benchMain([{ ...memory, messages: 10_000_000 }, rabbitmqSoak, kafkaSoak])
