// So many emits per second through one Redis, written as redis-emitter writes them, to users on several instances.
// One line of JSON: what was lost, and how late the rest was, from when each emit was due to its arrival at the client.
//   node redis/load/rate.mjs --rate 20000 --seconds 60 --servers sockring|node --instances 2 --users 400

import { once } from 'node:events';
import net from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { RedisServer } from '../../lib/redis.mjs';
import { pause } from '../../lib/wait.mjs';
import { bodyTo, channelOf, command, cpuSeconds, Holders, options, quantile, roomOf, startServers } from './common.mjs';

const { rate, seconds, servers: kind, instances, idle, shards, users: count, warm, rooms, to } = options({
  rate: 20_000, seconds: 60, servers: 'sockring', instances: 2, idle: 0, shards: 1, users: 400, warm: 2, rooms: 'all', to: 'users',
});
const PAYLOAD = 'x'.repeat(100);
const STAMP = 1.5;
const SETTLE_MS = 3000;

const now = () => Number(process.hrtime.bigint()) / 1e6;

/** The PUBLISH of an emit to a room, with the places of its number (uint32) and its due time (float64). */
function template(room) {
  const bytes = command('PUBLISH', channelOf(room), bodyTo(room, 'l', 0xffffffff, STAMP, PAYLOAD));
  const stamp = Buffer.alloc(9);
  stamp[0] = 0xcb;
  stamp.writeDoubleBE(STAMP, 1);
  return { bytes, number: bytes.indexOf(Buffer.from([0xce, 0xff, 0xff, 0xff, 0xff])) + 1, due: bytes.indexOf(stamp) + 1 };
}

/** Emits `total` at the rate, whatever the servers do; gives how late the last was written. */
async function emit(socket, templates, total) {
  const begun = now();
  let sent = 0;
  let worst = 0;
  while (sent < total) {
    const due = Math.min(total, Math.floor((now() - begun) * rate / 1000));
    if (due > sent) {
      const parts = [];
      for (; sent < due; sent += 1) {
        const { bytes, number, due: place } = templates[sent % templates.length];
        const one = Buffer.from(bytes);
        one.writeUInt32BE(sent, number);
        one.writeDoubleBE(begun + sent * 1000 / rate, place);
        parts.push(one);
      }
      worst = Math.max(worst, now() - (begun + (sent - parts.length) * 1000 / rate));
      if (!socket.write(Buffer.concat(parts))) await once(socket, 'drain');
    }
    await (sent < total ? pause(1) : turn());
  }
  return { worst, took: now() - begun };
}

const redis = await RedisServer.start();
const servers = await startServers(kind, redis, instances + idle, { adapter: 'classic', shards, rooms });
let holders;
try {
  const users = Array.from({ length: count }, (_, number) => `user-${number}`);
  holders = await Holders.hold(users.map((user, number) => [servers[number % instances], user]), 1);
  const socket = net.connect(redis.port, '127.0.0.1');
  socket.setNoDelay(true);
  let replies = 0;
  let received = 0;
  // Replies are `:1\r\n`: how many connections each emit was given to.
  socket.on('data', (chunk) => {
    for (let at = 0; at < chunk.length; at += 1) {
      if (chunk[at] === 0x3a) replies += 1;
      else if (chunk[at] >= 0x30 && chunk[at] <= 0x39) received += chunk[at] - 0x30;
    }
  });
  await once(socket, 'connect');
  // Nobody is in the rooms.
  const templates = users.map((user) => template(to === 'users' ? roomOf(user) : `room-of-${user}`));
  await holders.reset(rate * warm);
  await emit(socket, templates, rate * warm);
  await pause(SETTLE_MS / 2);
  const total = rate * seconds;
  await holders.reset(total);
  [replies, received] = [0, 0];
  const processes = { redis: redis.pid, ...Object.fromEntries(servers.map((server, index) => [`server_${index}`, server.pid])), holder: holders.children[0].pid, emitter: process.pid };
  const before = Object.fromEntries(Object.entries(processes).map(([name, pid]) => [name, cpuSeconds(pid)]));
  const { worst, took } = await emit(socket, templates, total);
  const cpu_share = Object.fromEntries(Object.entries(processes).map(([name, pid]) => [name, Math.round((cpuSeconds(pid) - before[name]) / took * 100000) / 100]));
  await pause(SETTLE_MS);
  const report = await holders.report();
  console.log(JSON.stringify({
    servers: kind, instances, idle, rooms, to, shards: kind === 'node' ? undefined : shards, users: count, rate: Math.round(total / took * 1000), seconds, emits: total,
    lost: total - (report.events - report.wrong), twice: report.wrong, receivers_per_emit: received / replies,
    p50_ms: quantile(report.latencies, 0.5), p99_ms: quantile(report.latencies, 0.99), p99_9_ms: quantile(report.latencies, 0.999), max_ms: quantile(report.latencies, 1),
    emitter_late_max_ms: Math.round(worst * 10) / 10, cpu_share, clients_gone: report.gone,
  }));
  socket.destroy();
} finally {
  holders?.end();
  for (const server of servers) await server.stop();
  await redis.stop();
}
