// A Socket.IO server as a Node team runs it: socket.io, the Redis adapter, node-redis. Its parent tells it what to do.
//   environment: PORT, ADAPTER=classic|sharded|streams|none, REDIS_URL, REDIS_CLUSTER (JSON list of URLs), NAMESPACES, PREFIX,
//   SUBSCRIBER_URL (where its subscriber finds Redis, when that is another way), MODE (subscriptionMode of the sharded adapter), RESPONSES=specific (answers go to their asker's own channel),
//   RECOVERY_MS (connectionStateRecovery: for how long clients may be away), ACCESS_TOKEN_SECRET

import http from 'node:http';
import { createHmac } from 'node:crypto';
import { createAdapter, createShardedAdapter } from '@socket.io/redis-adapter';
import { createAdapter as createStreamsAdapter } from '@socket.io/redis-streams-adapter';
import { createClient, createCluster } from 'redis';
import { Server } from 'socket.io';

const { env } = process;
const errors = [];
const told = [];

// What the network does is not what a peer sent.
const OF_THE_NETWORK = /ECONN|Socket closed|socket closed|TimeoutError|timed out|Timeout|The client is (closed|offline)|Connection timeout|EPIPE|CLUSTERDOWN|cluster is down|Disconnects/i;
const note = (where) => (error) => {
  const words = `${where}: ${error?.name}: ${error?.message}`;
  errors.push({ words, network: OF_THE_NETWORK.test(`${error?.code} ${error?.name} ${error?.message}`) });
};
process.on('unhandledRejection', note('unhandled rejection'));
process.on('uncaughtException', note('uncaught exception'));

function redisClient(url = env.REDIS_URL) {
  const socket = { reconnectStrategy: (tries) => Math.min(50 + tries * 20, 300) };
  return env.REDIS_CLUSTER
    ? createCluster({ rootNodes: JSON.parse(env.REDIS_CLUSTER).map((url) => ({ url })), defaults: { socket } })
    : createClient({ url, socket });
}

let publisher;

async function adapter() {
  if (env.ADAPTER === 'none') return undefined;
  if (env.ADAPTER === 'streams') return streamsAdapter();
  publisher = redisClient();
  const subscriber = redisClient(env.SUBSCRIBER_URL);
  publisher.on('error', note('publisher'));
  subscriber.on('error', note('subscriber'));
  await Promise.all([publisher.connect(), subscriber.connect()]);
  const prefix = env.PREFIX ?? 'socket.io';
  return env.ADAPTER === 'sharded'
    ? createShardedAdapter(publisher, subscriber, { channelPrefix: prefix, subscriptionMode: env.MODE ?? 'dynamic' })
    : createAdapter(publisher, subscriber, { key: prefix, publishOnSpecificResponseChannel: env.RESPONSES === 'specific' });
}

/** It duplicates its client for the stream and for its channels. */
async function streamsAdapter() {
  publisher = redisClient();
  publisher.on('error', note('client'));
  await publisher.connect();
  return createStreamsAdapter(publisher, {
    channelPrefix: env.PREFIX ?? 'socket.io',
    streamName: env.STREAM ?? 'socket.io',
    streamCount: Number(env.STREAMS ?? 1),
    maxLen: Number(env.ENTRIES ?? 10000),
  });
}

/** The `_id` of a good token. */
function verify(token) {
  const parts = String(token).split('.');
  const signature = createHmac('sha256', env.ACCESS_TOKEN_SECRET).update(`${parts[0]}.${parts[1]}`).digest('base64url');
  return signature === parts[2] ? JSON.parse(Buffer.from(parts[1], 'base64url').toString())._id : undefined;
}

const server = http.createServer((_, response) => response.writeHead(404).end());
const recovery = env.RECOVERY_MS ? { connectionStateRecovery: { maxDisconnectionDuration: Number(env.RECOVERY_MS) } } : {};
const io = new Server(server, { adapter: await adapter(), cors: { origin: '*' }, ...recovery });

for (const name of (env.NAMESPACES ?? '/,/admin').split(',')) {
  const namespace = io.of(name);
  namespace.use((socket, next) => {
    const userId = verify(socket.handshake.auth.token);
    if (!userId) return next(new Error('Authentication failed'));
    socket.data.userId = userId;
    return next();
  });
  namespace.on('connection', (socket) => {
    const { userId } = socket.data;
    socket.join(`user:${userId}`);
    socket.emit('connected', { message: 'Successfully connected', userId, socketId: socket.id, timestamp: new Date().toISOString(), server: 'node' });
  });
  namespace.on('tell', (...args) => told.push(args));
  namespace.on('ask', (question, answer) => answer({ from: env.NAME, question }));
}

/** `io.of(..).to(..).except(..)` with its flags. */
function target({ nsp = '/', rooms = [], except = [], flags = {} }) {
  let to = io.of(nsp);
  if (rooms.length > 0) to = to.to(rooms);
  if (except.length > 0) to = to.except(except);
  if (flags.volatile) to = to.volatile;
  if (flags.local) to = to.local;
  if (flags.compress !== undefined) to = to.compress(flags.compress);
  if (flags.timeout !== undefined) to = to.timeout(flags.timeout);
  return to;
}

const described = (socket) => ({ id: socket.id, rooms: [...socket.rooms], handshake: Object.keys(socket.handshake).sort(), data: socket.data });

/** What fails gives its words and what it had. */
const attempt = (promise) => promise.then((value) => ({ value }), (error) => ({ error: error.message, responses: error.responses }));

const operations = {
  emit: (spec) => void target(spec).emit(...spec.args),
  emits: (specs) => specs.forEach((spec) => target(spec).emit(...spec.args)),
  emitWithAck: (spec) => attempt(target(spec).emitWithAck(...spec.args)),
  fetchSockets: (spec) => attempt(target(spec).fetchSockets().then((sockets) => sockets.map(described))),
  /** So many at once: how many failed, and how many sockets the others found. */
  async fetchMany({ count, ...spec }) {
    const answers = await Promise.allSettled(Array.from({ length: count }, () => target(spec).fetchSockets()));
    const found = answers.flatMap(({ value }) => (value ? [value.length] : []));
    return { failed: count - found.length, found: [...new Set(found)] };
  },
  /** So many in a second, whatever becomes of those before: how many failed, and how many were acknowledged how often. */
  async ackRate({ rate, seconds, rooms, timeout, args }) {
    const begun = performance.now();
    const asked = [];
    while (asked.length < rate * seconds) {
      const due = Math.min(rate * seconds, Math.floor((performance.now() - begun) * rate / 1000));
      for (; asked.length < due;) asked.push(attempt(io.timeout(timeout).to(rooms[asked.length % rooms.length]).emitWithAck(...args)));
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    const answers = await Promise.all(asked);
    const acknowledged = answers.flatMap(({ value }) => (value ? [value.length] : []));
    return { asked: asked.length, failed: asked.length - acknowledged.length, acknowledged: [...new Set(acknowledged)], took_ms: Math.round(performance.now() - begun) };
  },
  allRooms: ({ nsp = '/' }) => attempt(io.of(nsp).adapter.allRooms().then((rooms) => [...rooms])),
  serverCount: ({ nsp = '/' }) => attempt(io.of(nsp).adapter.serverCount()),
  socketsJoin: (spec) => target(spec).socketsJoin(spec.join),
  socketsLeave: (spec) => target(spec).socketsLeave(spec.leave),
  disconnectSockets: (spec) => target(spec).disconnectSockets(spec.close),
  /** Ends the connections of its own clients, which come back by themselves, as after `server.close()`. */
  closeConnections: () => [...io.of('/').sockets.values()].forEach((socket) => socket.conn.close()),
  serverSideEmit: ({ nsp = '/', args }) => io.of(nsp).serverSideEmit(...args),
  serverSideEmitWithAck: ({ nsp = '/', args }) => attempt(io.of(nsp).serverSideEmitWithAck(...args)),
  /** `socket.broadcast.emit`, or `socket.to(rooms).emit`. */
  fromSocket({ nsp = '/', id, rooms = [], args }) {
    const socket = io.of(nsp).sockets.get(id);
    (rooms.length > 0 ? socket.to(rooms) : socket.broadcast).emit(...args);
  },
  /** A socket that may be anywhere, by the handle that fetchSockets gives. */
  async remote({ nsp = '/', id, action, args }) {
    const [socket] = await io.of(nsp).in(id).fetchSockets();
    socket[action](...args);
  },
  localRooms: ({ nsp = '/' }) => [...io.of(nsp).adapter.rooms.keys()],
  /** One after the other, and nothing in between; it ends when Redis has all of it, if it is one and no cluster. */
  async sequence(steps) {
    steps.forEach(([operation, spec]) => void operations[operation](spec));
    await publisher?.ping();
  },
  told: () => told.splice(0),
  errors: () => errors.splice(0),
};

process.on('message', async ({ number, operation, spec }) => {
  try {
    const value = await operations[operation](spec);
    process.send({ number, value: value === io ? undefined : value });
  } catch (error) {
    process.send({ number, failure: error.stack });
  }
});
process.on('disconnect', () => process.exit());

server.listen(Number(env.PORT ?? 0), '127.0.0.1', () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
