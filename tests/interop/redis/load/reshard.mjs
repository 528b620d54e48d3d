// Thousands of slots of a Redis Cluster move from one master to another while users whose rooms are in them are told something
// all the time. One line of JSON: what was lost.
//   node redis/load/reshard.mjs --users 16000 --slots 4000 --rate 1000 --seconds 28 --servers sockring|node --shards 2

import { createCluster } from 'redis';
import { RedisCluster } from '../../lib/redis.mjs';
import { pause, until } from '../../lib/wait.mjs';
import { channelOf, Holders, options, quantile, roomOf, shardedBodyTo, startServers } from './common.mjs';

const { users: count, slots: moving, rate, seconds, servers: kind, shards } = options({ users: 16_000, slots: 4000, rate: 1000, seconds: 28, servers: 'sockring', shards: 2 });
const SETTLE_MS = 3000;
const EMITS = rate * seconds;
const users = Array.from({ length: count }, (_, number) => `user-${number}`);
// Each user in turn, neighbours far from each other.
const userOf = (number) => users[(number * 7919) % count];

const now = () => Number(process.hrtime.bigint()) / 1e6;

const redis = await RedisCluster.start();
let server;
let publisher;
let holders;
try {
  [server] = await startServers(kind, redis, 1, { adapter: 'sharded', shards });
  publisher = createCluster({ rootNodes: redis.masters.map(({ url }) => ({ url })) });
  publisher.on('error', () => {});
  await publisher.connect();
  holders = await Holders.hold(users.map((user) => [server, user]), 1);
  await until(30_000, 'all rooms are subscribed', () => redis.channels('socket.io#/#user:*'), ({ length }) => length === count, 500);
  await holders.reset(EMITS);

  const refused = new Set();
  const failed = [];
  async function emit() {
    const begun = now();
    const underWay = [];
    for (let sent = 0; sent < EMITS; await pause(1)) {
      for (const due = Math.min(EMITS, Math.floor((now() - begun) * rate / 1000)); sent < due; sent += 1) {
        const number = sent;
        const room = roomOf(userOf(number));
        // Node-redis itself gives up what is sent to and fro too often.
        underWay.push(publisher.sPublish(channelOf(room), shardedBodyTo(room, 'l', number, begun + number * 1000 / rate)).catch((error) => {
          refused.add(number);
          failed.push(error.message);
        }));
      }
    }
    await Promise.all(underWay);
  }
  async function reshard() {
    const begun = now();
    await redis.moveSlots(Array.from({ length: moving }, (_, slot) => slot), redis.masters[0], redis.masters[1]);
    return Math.round(now() - begun);
  }
  const [resharding_ms] = await Promise.all([reshard(), emit()]);
  await pause(SETTLE_MS);
  const report = await holders.report();
  const lost = (await holders.missing()).filter((number) => !refused.has(number));
  const silent = new Map();
  for (const number of lost) silent.set(userOf(number), (silent.get(userOf(number)) ?? 0) + 1);
  const subscribed = await redis.channels('socket.io#/#user:*');
  console.log(JSON.stringify({
    servers: kind, shards: kind === 'node' ? undefined : shards, users: count, slots: moving, resharding_ms, emits: EMITS, refused: refused.size, reasons: [...new Set(failed)],
    lost: lost.length, lost_of_one_user_max: Math.max(0, ...silent.values()), twice: report.wrong, p99_ms: quantile(report.latencies, 0.99), max_ms: quantile(report.latencies, 1),
    subscribed: subscribed.length, clients_gone: report.gone,
  }));
} finally {
  holders?.end();
  publisher?.destroy();
  await server?.stop();
  await redis.stop();
}
