import { FLUSH, type ConnectionParts } from './client.ts'

/**
 * Makes all frames of one turn leave in one write: amqplib writes every frame by itself, which without
 * Nagle's algorithm is a system call and a packet each. Holds the socket back while the collected
 * frames are flushed. Returns false, and changes nothing, where amqplib's insides are not the known
 * ones: then everything works as before, slower.
 */
export function corkFlushes({ stream, muxer }: ConnectionParts): boolean {
  if (stream === null || muxer === null) return false
  const flush = muxer[FLUSH]?.bind(muxer)
  muxer[FLUSH] = () => {
    stream.cork()
    try {
      flush?.()
    } finally {
      stream.uncork()
    }
  }
  return true
}
