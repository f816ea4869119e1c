import {
  apiVersions,
  createTopics,
  deleteTopics,
  describeConfigs,
  findCoordinator,
  initProducerId,
  metadata,
  type AddressedMetadata,
  type Described,
  type Versions,
} from './cluster-requests.ts'
import { FETCH } from './fetch-protocol.ts'
import {
  heartbeat,
  joinGroup,
  leaveGroup,
  listOffsets,
  offsetCommit,
  offsetFetch,
  syncGroup,
} from './group-requests.ts'
import type { Node } from './cluster.ts'
import type { ConnectedNode } from './cluster-node.ts'
import type { PlatformaticConnection } from './platformatic-connection.ts'
import { exchangeOf, type Exchange, type Request } from './request.ts'

/**
 * A node of the cluster as the links know nodes, on connections of @platformatic/kafka: one for fetches,
 * which wait for records, and one for everything else, so that nothing waits behind a fetch.
 */
export class PlatformaticNode implements Node, ConnectedNode {
  readonly nodeId: number | null
  readonly connectionPool: ConnectedNode['connectionPool']
  readonly #fetches: PlatformaticConnection
  readonly #others: PlatformaticConnection
  #versions: Versions | null = null

  constructor(nodeId: number | null, connect: () => PlatformaticConnection) {
    this.nodeId = nodeId
    this.#fetches = connect()
    this.#others = connect()
    this.connectionPool = {
      send: (exchange) => this.#exchange(exchange as Exchange<unknown>),
      pool: [this.#fetches, this.#others],
    }
  }

  /** Known once it was connected. */
  get versions(): Versions | null {
    return this.#versions
  }

  get isConnected(): boolean {
    return this.#others.isConnected && this.#versions !== null
  }

  /** Connects, logs in, and learns which versions it takes. */
  async open(): Promise<void> {
    await this.#others.open()
    this.#versions ??= await this.#ask(apiVersions, null)
  }

  /** Ends its connections in order. */
  async close(): Promise<void> {
    await Promise.all([this.#fetches.close(), this.#others.close()])
  }

  metadata(topics: readonly string[]): Promise<AddressedMetadata> {
    return this.#ask(metadata, topics)
  }

  createTopics(asked: object): Promise<unknown> {
    return this.#ask(createTopics, asked as AskedOf<typeof createTopics>)
  }

  deleteTopics(asked: object): Promise<unknown> {
    return this.#ask(deleteTopics, asked as AskedOf<typeof deleteTopics>)
  }

  describeConfigs(asked: object): Promise<Described> {
    return this.#ask(describeConfigs, asked as AskedOf<typeof describeConfigs>)
  }

  listOffsets(asked: object): ReturnType<Node['listOffsets']> {
    return this.#ask(listOffsets, asked as AskedOf<typeof listOffsets>)
  }

  findGroupCoordinator(asked: object): ReturnType<Node['findGroupCoordinator']> {
    return this.#ask(findCoordinator, asked as AskedOf<typeof findCoordinator>)
  }

  offsetFetch(asked: object): ReturnType<Node['offsetFetch']> {
    return this.#ask(offsetFetch, asked as AskedOf<typeof offsetFetch>)
  }

  offsetCommit(asked: object): Promise<unknown> {
    return this.#ask(offsetCommit, asked as AskedOf<typeof offsetCommit>)
  }

  /** A new member is told its id first, and joins with it. */
  async joinGroup(asked: object): Promise<AnswerOf<typeof joinGroup>> {
    const member = asked as AskedOf<typeof joinGroup>
    const answer = await this.#ask(joinGroup, member)
    if (!answer.isIdRequired) return answer
    return this.#ask(joinGroup, { ...member, memberId: answer.memberId })
  }

  syncGroup(asked: object): Promise<AnswerOf<typeof syncGroup>> {
    return this.#ask(syncGroup, asked as AskedOf<typeof syncGroup>)
  }

  heartbeat(asked: object): Promise<unknown> {
    return this.#ask(heartbeat, asked as AskedOf<typeof heartbeat>)
  }

  leaveGroup(asked: object): Promise<unknown> {
    return this.#ask(leaveGroup, asked as AskedOf<typeof leaveGroup>)
  }

  initProducerId(asked: object): Promise<AnswerOf<typeof initProducerId>> {
    return this.#ask(initProducerId, asked as AskedOf<typeof initProducerId>)
  }

  #ask<Asked, Answer>(request: Request<Asked, Answer>, asked: Asked): Promise<Answer> {
    return this.#exchange(exchangeOf(request, asked))
  }

  async #exchange<Answer>({ request, response }: Exchange<Answer>): Promise<Answer> {
    const { apiKey, apiVersion, encode } = request
    const connection = apiKey === FETCH.key ? this.#fetches : this.#others
    const bytes = async (): Promise<Buffer> => (await encode()).buffer
    const body = await connection.send(apiKey, apiVersion, bytes)
    return response.parse(await response.decode(body))
  }
}

type AskedOf<R> = R extends Request<infer Asked, infer _> ? Asked : never
type AnswerOf<R> = R extends Request<infer _, infer Answer> ? Answer : never
