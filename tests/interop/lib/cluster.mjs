// Socket.IO servers around one Redis: two under test (A and B) and two of Node (C and D), and clients on each of them.

import path from 'node:path';
import { api, call } from './api.mjs';
import { Client } from './client.mjs';
import { tokenFor } from './jwt.mjs';
import { packageRoot, secret, start, startSockring } from './program.mjs';
import { brief, until, within } from './wait.mjs';

const nodeScript = path.join(packageRoot, 'redis/node-server.mjs');

/** `PEERS=node`: A and B are Node servers too, to prove the tests with. */
export const peersAreNode = process.env.PEERS === 'node';
/** `ADAPTERS=classic`, `sharded` or `streams`: only these. */
export const adapters = (process.env.ADAPTERS ?? 'classic,sharded,streams').split(',');
/** Those whose events are published, to channels that are subscribed. */
export const publishing = adapters.filter((adapter) => adapter !== 'streams');
export const NAMESPACES = '/,/admin';

/** Where the servers find Redis. */
function redisOfNode(redis) {
  return redis.masters ? { REDIS_CLUSTER: JSON.stringify(redis.masters.map((master) => master.url)) } : { REDIS_URL: redis.url };
}

function redisOfSockring(redis) {
  return redis.masters ? { REDIS_URL: redis.url } : { REDIS_HOST: redis.host, REDIS_PORT: String(redis.port) };
}

/** A Node server with `ask(operation, spec)`. */
export async function startNode(redis, { name = 'N', adapter = 'classic', port, env = {} } = {}) {
  const settings = {
    NAME: name,
    ADAPTER: adapter,
    NAMESPACES,
    ACCESS_TOKEN_SECRET: secret,
    ...(redis ? redisOfNode(redis) : {}),
    ...(port ? { PORT: String(port) } : {}),
    ...env,
  };
  const server = await start(process.execPath, [nodeScript], settings, { channel: true });
  const waiting = new Map();
  let last = 0;
  server.child.on('message', ({ number, value, failure }) => {
    const { resolve, reject } = waiting.get(number);
    waiting.delete(number);
    if (failure) reject(new Error(`Node server ${name}: ${failure}`));
    else resolve(value);
  });
  server.child.on('error', () => {});
  const ask = (operation, spec = {}, ms = 8000) => {
    last += 1;
    const number = last;
    const answered = new Promise((resolve, reject) => waiting.set(number, { resolve, reject }));
    server.child.send({ number, operation, spec }, () => {});
    return within(ms, `Node server ${name} does ${operation} ${brief(spec)}`, answered);
  };
  return Object.assign(server, {
    kind: 'node',
    name,
    ask,
    emit: (spec) => ask('emit', spec),
    join: (sid, rooms, nsp = '/') => ask('socketsJoin', { nsp, rooms: [sid], flags: { local: true }, join: rooms }),
    /** What it could not make sense of. */
    complaints: async () => (await ask('errors')).filter((error) => !error.network).map((error) => error.words),
  });
}

/** What `POST /emit` wants for an emit of `io.to(..).emit(..)`. */
export function emitBody({ nsp = '/', rooms = [], except = [], flags = {}, args }) {
  return {
    event: args[0],
    args: args.slice(1),
    ...(rooms.length > 0 ? { rooms: rooms.map(String) } : { broadcast: true }),
    ...(except.length > 0 ? { except: except.map(String) } : {}),
    ...(nsp === '/' ? {} : { namespace: nsp }),
    ...(flags.volatile ? { volatile: true } : {}),
  };
}

/** A sockring in the same cluster, with the same `emit` and `join`. */
export async function startPeer(redis, { name = 'S', adapter = 'classic', port, env = {} } = {}) {
  if (peersAreNode) return startNode(redis, { name, adapter, port, env });
  const server = await startSockring({
    SOCKRING_NAMESPACES: NAMESPACES,
    SOCKRING_REDIS_ADAPTER: adapter,
    SOCKRING_SHARDS: process.env.SHARDS ?? '2',
    ...(redis ? redisOfSockring(redis) : {}),
    ...(port ? { PORT: String(port) } : {}),
    ...env,
  });
  return Object.assign(server, {
    kind: 'sockring',
    name,
    emit: (spec) => api(server, 'POST', '/emit', emitBody(spec)),
    async join(sid, rooms) {
      for (const room of rooms) await api(server, 'POST', '/rooms/join', { socketId: sid, room: String(room) });
    },
    complaints: async () => [],
    get: async (route) => (await call(server, 'GET', route)).json().data,
  });
}

/** The servers A, B, C, D. */
export async function startServers(redis, adapter) {
  const [A, B, C, D] = await Promise.all([
    startPeer(redis, { name: 'A', adapter }),
    startPeer(redis, { name: 'B', adapter }),
    startNode(redis, { name: 'C', adapter }),
    // One of them answers on the asker's own channel, as some teams have it.
    startNode(redis, { name: 'D', adapter, env: { RESPONSES: 'specific' } }),
  ]);
  await assembled(C, 4);
  return { A, B, C, D };
}

/** Waits until this Node server counts so many, in every namespace. */
export async function assembled(node, count, ms = 5000) {
  for (const nsp of NAMESPACES.split(',')) {
    await until(ms, `${node.name} counts ${count} servers in ${nsp}`, () => node.ask('serverCount', { nsp }), (answer) => answer.value === count);
  }
}

/**
 * Waits until so many servers hear each of these rooms, which are lists of namespace, room and number. Only Node's sharded
 * adapter needs it: it tells nobody when its SSUBSCRIBE is through. Its classic one hears everything by a pattern.
 */
export async function heard(redis, adapter, rooms, ms = 5000) {
  if (adapter !== 'sharded') return;
  await Promise.all(rooms.map(([nsp, room, servers]) => (
    until(ms, `${servers} servers hear ${room} in ${nsp}`, () => redis.subscribers(`socket.io#${nsp}#${room}#`, 'SHARDNUMSUB').catch(() => -1), (count) => count === servers, 10)
  )));
}

export async function stopServers(servers) {
  await Promise.all(Object.values(servers).map((server) => server.stop()));
}

/** A stock client of one user on one server. */
export function connect(server, user, { transports = ['websocket'], ...options } = {}) {
  return Client.connected('4.8.4', server, { token: tokenFor(user), transports, ...options });
}
