// Many users on two instances: each emit is received by one connection; all is back after a restart of Redis. One line of JSON.
//   node redis/load/users.mjs --users 50000 --servers sockring|node --adapter classic|sharded --shards 2

import { createClient } from 'redis';
import { RedisServer } from '../../lib/redis.mjs';
import { pause, until } from '../../lib/wait.mjs';
import { bodyTo, channelOf, cpuSeconds, Holders, options, roomOf, shardedBodyTo, startServers } from './common.mjs';

const { users: count, servers: kind, adapter, shards, holders: processes, emits, outage } = options({ users: 50_000, servers: 'sockring', adapter: 'classic', shards: 2, holders: 4, emits: 50_000, outage: 0 });
const CHUNK = 1000;
const sharded = adapter === 'sharded';

const redis = await RedisServer.start({ 'client-output-buffer-limit': 'pubsub 256mb 128mb 60' });
const servers = await startServers(kind, redis, 2, { adapter, shards });
const users = Array.from({ length: count }, (_, number) => `user-${number}`);
let holders;
let client;

/** Counts of `PUBSUB NUMSUB` over all users' channels: {0: how many, 1: how many, ...}. */
async function subscribers() {
  const counts = {};
  for (let at = 0; at < count; at += CHUNK) {
    const answer = await client.sendCommand(['PUBSUB', sharded ? 'SHARDNUMSUB' : 'NUMSUB', ...users.slice(at, at + CHUNK).map(roomOf).map(channelOf)]);
    for (let index = 1; index < answer.length; index += 2) counts[answer[index]] = (counts[answer[index]] ?? 0) + 1;
  }
  return counts;
}

function bodyFor(user) {
  return (sharded ? shardedBodyTo : bodyTo)(roomOf(user), 'x', 1);
}

/** One emit to each of the first `emits` users; how many connections each was given to. */
async function publish() {
  const receivers = {};
  for (let at = 0; at < emits; at += CHUNK) {
    const replies = await Promise.all(users.slice(at, Math.min(emits, at + CHUNK)).map((user) => client.sendCommand([sharded ? 'SPUBLISH' : 'PUBLISH', channelOf(roomOf(user)), bodyFor(user)])));
    for (const reply of replies) receivers[reply] = (receivers[reply] ?? 0) + 1;
  }
  return receivers;
}

async function delivered() {
  await holders.reset();
  const begun = Date.now();
  const receivers = await publish();
  const report = await until(20000, 'all have it', () => holders.report(), ({ events }) => events >= emits, 100).catch(() => holders.report());
  return { receivers, delivered: report.events, seconds: (Date.now() - begun) / 1000, clients_gone: report.gone };
}

try {
  client = createClient({ url: redis.url, socket: { reconnectStrategy: 50 } });
  client.on('error', () => {});
  await client.connect();
  holders = await Holders.hold(users.map((user, number) => [servers[number % 2], user]), processes);
  const first = { subscribers_per_channel: await subscribers(), ...await delivered() };
  const list = String(await redis.command('CLIENT', 'LIST', 'TYPE', 'PUBSUB')).trim().split('\n');
  const channels_per_connection = list.map((line) => Number(/ sub=(\d+)/.exec(line)[1]) + Number(/ psub=(\d+)/.exec(line)[1]) + Number(/ ssub=(\d+)/.exec(line)?.[1] ?? 0)).sort((a, b) => b - a);
  const used = servers.map((server) => cpuSeconds(server.pid));
  await redis.kill();
  await pause(outage * 1000);
  await redis.begin();
  const back = Date.now();
  const wanted = kind === 'node' && !sharded ? undefined : count;
  const after = await until(60000, 'all are subscribed again', () => subscribers().catch(() => ({})), (counts) => wanted === undefined || counts[1] === wanted, 20).catch((error) => error.message);
  const resubscribed_ms = Date.now() - back;
  const resubscription_cpu_seconds = servers.map((server, index) => Math.round((cpuSeconds(server.pid) - used[index]) * 100) / 100);
  console.log(JSON.stringify({
    servers: kind, adapter, shards, users: count, emits, outage_seconds: outage, connect_ms: holders.took, first, channels_per_connection, resubscribed_ms, resubscription_cpu_seconds, subscribers_after: after, again: await delivered(),
    commands: String(await redis.command('INFO', 'commandstats')).match(/cmdstat_s?(?:ubscribe|publish|ssubscribe|psubscribe)[^\r]*/g),
  }));
} finally {
  holders?.end();
  client?.destroy();
  for (const server of servers) await server.stop();
  await redis.stop();
}
