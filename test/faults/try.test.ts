import { afterAll, it } from 'vitest'
import { Rig } from '../adapters/kafka/harness.ts'
import { startKafkaCluster } from '../brokers/kafka.ts'
import { withAdmin } from '../brokers/kafka-topics.ts'
import { groundOf } from './kafka/ground.ts'
import { GROUP, inTraffic } from './traffic.ts'
const cluster = await startKafkaCluster()
afterAll(() => cluster.remove())
it('x', async () => {
  const rig = await Rig.open(...cluster.nodes)
  const log: string[] = []
  const now = () => Math.round(performance.now())
  rig.proxies.forEach((proxy, i) => proxy.rule((seen) => {
    if (['FindCoordinator', 'JoinGroup', 'SyncGroup', 'Heartbeat', 'OffsetFetch', 'LeaveGroup', 'OffsetCommit'].includes(seen.api)) log.push(`${now()} b${i + 1} ${seen.api} ${seen.group}`)
    return false
  }, { do: 'drop' }))
  await inTraffic({ ground: groundOf(rig) }, async (traffic) => {
    for (let n = 0; n < 12; n++) {
      await cluster.untilInSync(traffic.topicName, `${traffic.topicName}.${GROUP}.dead`, '__consumer_offsets')
      const victim = n % 2 === 0 ? await cluster.leaderOf(traffic.topicName, n % 6) : await cluster.controller()
      console.log(now(), 'kill', n, victim.id)
      log.length = 0
      await victim.kill()
      try {
      await Promise.race([traffic.flows(), new Promise((_, r) => setTimeout(() => r(new Error('stuck')), 60_000))])
      } catch (e) {
        console.log(now(), String(e), JSON.stringify(log.slice(-80), null, 1))
        const alive = cluster.nodes.filter((x) => x !== victim).map((x) => x.broker)
        console.log(JSON.stringify((await withAdmin(alive, (a) => a.describeGroups([`${traffic.topicName}.a`]))).groups.map((g) => ({ s: g.state, m: g.members.map((m) => m.memberId) }))))
        for (const x of cluster.nodes) if (x !== victim) console.log(x.id, (await x.logs()).slice(-1500))
        throw e
      }
      await victim.start()
    }
  })
}, 600_000)
