// So many emitWithAck per second by a Node server to users of a sockring, each with a timeout, and then many fetchSockets at
// once. One line of JSON: what failed.
//   node redis/load/asks.mjs --rate 1000 --seconds 12 --timeout 10000 --fetches 3000 --servers sockring|node --shards 2

import { connect, startNode } from '../../lib/cluster.mjs';
import { RedisServer } from '../../lib/redis.mjs';
import { closeClients } from '../../lib/client.mjs';
import { until } from '../../lib/wait.mjs';
import { options, startServers } from './common.mjs';

const { rate, seconds, timeout, fetches, adapter, servers: kind, shards, users: count } = options({
  rate: 1000, seconds: 12, timeout: 10_000, fetches: 3000, adapter: 'classic', servers: 'sockring', shards: 2, users: 20,
});

const redis = await RedisServer.start();
const [server] = await startServers(kind, redis, 1, { adapter, shards });
const asker = await startNode(redis, { name: 'asker', adapter, env: { NAMESPACES: '/' } });
try {
  const users = Array.from({ length: count }, (_, number) => `user-${number}`);
  const clients = await Promise.all(users.map((user) => connect(server, user)));
  for (const { socket } of clients) socket.on('question', (number, answer) => answer(number));
  await until(5000, 'both count each other', () => asker.ask('serverCount'), ({ value }) => value === 2);
  const rooms = users.map((user) => `user:${user}`);
  const acks = await asker.ask('ackRate', { rate, seconds, rooms, timeout, args: ['question', 1] }, (seconds * 2 + 30) * 1000 + timeout);
  const all = await asker.ask('fetchMany', { count: fetches }, 60_000);
  const one = await asker.ask('fetchMany', { count: fetches, rooms: [rooms[0]] }, 60_000);
  console.log(JSON.stringify({ servers: kind, adapter, shards: kind === 'node' ? undefined : shards, rate, acks, fetches, all, one }));
} finally {
  closeClients();
  await Promise.all([server.stop(), asker.stop()]);
  await redis.stop();
}
