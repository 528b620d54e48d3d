// The Node reference behind the same command line and HTTP API as the programs under test, to prove the tests with.
//   node reference.mjs echo --layer socketio|engineio|websocket --port 3000 ...
//   node reference.mjs serve            (settings from the environment)
//   node reference.mjs suite [--port 3000]   (Engine.IO and Socket.IO echo on one port, for TARGET=)

import http from 'node:http';
import { parseArgs } from 'node:util';
import { createHmac, timingSafeEqual } from 'node:crypto';
import { Server as EngineServer } from 'engine.io';
import { Server } from 'socket.io';
import { WebSocketServer } from 'ws';

const mode = process.argv[2];
const { values } = parseArgs({
  args: process.argv.slice(3),
  options: Object.fromEntries(['layer', 'port', 'ping-interval', 'ping-timeout', 'connect-timeout', 'upgrade-timeout', 'max-payload', 'shards']
    .map((name) => [name, { type: 'string' }])),
});
const number = (name, fallback) => Number(values[name] ?? fallback);

const suite = mode === 'suite';
const engineOptions = {
  pingInterval: number('ping-interval', suite ? 300 : 25000),
  pingTimeout: number('ping-timeout', suite ? 200 : 20000),
  upgradeTimeout: number('upgrade-timeout', 10000),
  maxHttpBufferSize: number('max-payload', 1000000),
};

function listen(server, port) {
  server.listen(Number(port ?? 0), '127.0.0.1', () => {
    console.log(`listening on http://127.0.0.1:${server.address().port}`);
  });
}

function engineEcho(server) {
  const engine = new EngineServer(engineOptions);
  engine.attach(server, { path: '/engine.io/' });
  engine.on('connection', (socket) => socket.on('message', (data) => socket.send(data)));
}

function socketEcho(server) {
  const io = new Server(server, { ...engineOptions, connectTimeout: number('connect-timeout', suite ? 1000 : 45000) });
  io.on('connection', (socket) => {
    socket.emit('auth', socket.handshake.auth);
    socket.on('message', (...args) => socket.emit('message-back', ...args));
    socket.on('message-with-ack', (...args) => args.pop()(...args));
  });
  io.of('/custom').on('connection', (socket) => socket.emit('auth', socket.handshake.auth));
}

if (mode === 'echo' || suite) {
  const server = http.createServer((_, response) => {
    response.writeHead(404).end();
  });
  if (suite || values.layer === 'engineio') engineEcho(server);
  if (suite || values.layer === 'socketio') socketEcho(server);
  if (values.layer === 'websocket') {
    new WebSocketServer({ server, maxPayload: 16 * 1024 * 1024 }).on('connection', (ws) => {
      ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary }));
      ws.on('error', () => {});
    });
  }
  listen(server, values.port);
} else if (mode === 'serve') {
  serve();
} else {
  console.error('usage: node reference.mjs echo|serve|suite ...');
  process.exitCode = 2;
}

// What `sockring serve` does, as far as the client tests look at it.

function serve() {
  const env = process.env;
  const origin = env.CORS_ORIGIN ?? (env.SOCKRING_ENV === 'production' ? undefined : '*');
  const origins = origin === undefined || origin === '*' ? origin : origin.split(',').map((one) => one.trim());
  const server = http.createServer((request, response) => api(request, response));
  const io = new Server(server, {
    pingInterval: Number(env.SOCKRING_PING_INTERVAL_MS ?? 25000),
    pingTimeout: Number(env.SOCKRING_PING_TIMEOUT_MS ?? 20000),
    connectTimeout: Number(env.SOCKRING_CONNECT_TIMEOUT_MS ?? 45000),
    upgradeTimeout: Number(env.SOCKRING_UPGRADE_TIMEOUT_MS ?? 10000),
    ...(Number(env.SOCKRING_RECOVERY_WINDOW_S ?? 0) > 0
      ? { connectionStateRecovery: { maxDisconnectionDuration: Number(env.SOCKRING_RECOVERY_WINDOW_S) * 1000, skipMiddlewares: false } } : {}),
    ...(origins === undefined ? {} : { cors: { origin: origins, credentials: origins !== '*' } }),
    allowRequest: (request, done) => {
      const from = request.headers.origin;
      const allowed = from === undefined || origins === '*' || (origins ?? []).includes(from);
      done(null, allowed);
    },
  });
  const place = env.SOCKRING_ENV ?? 'development';
  const stamp = () => ({ timestamp: new Date().toISOString(), server: place });

  for (const name of (env.SOCKRING_NAMESPACES ?? '/').split(',')) {
    const namespace = io.of(name);
    namespace.use((socket, next) => {
      const bearer = /^Bearer (.+)$/.exec(socket.handshake.headers.authorization ?? '')?.[1];
      const token = socket.handshake.auth.token || bearer;
      if (!token) return next(new Error('Authentication token required'));
      const userId = verify(token, env.ACCESS_TOKEN_SECRET);
      if (!userId) return next(new Error('Authentication failed'));
      socket.data.userId = userId;
      return next();
    });
    namespace.on('connection', (socket) => {
      const { userId } = socket.data;
      socket.join(`user:${userId}`);
      socket.emit('connected', { message: 'Successfully connected', userId, socketId: socket.id, ...stamp() });
    });
  }

  async function api(request, response) {
    const { pathname } = new URL(request.url, 'http://x');
    const answer = (status, data, message = 'ok') => {
      response.writeHead(status, { 'Content-Type': 'application/json' });
      response.end(JSON.stringify({ statusCode: status, data, message, success: status < 400, ...(status < 400 ? {} : { errors: [] }) }));
    };
    if (pathname === '/health') return answer(200, {});
    if (!pathname.startsWith('/api/v1/websocket/')) return answer(404, null, 'Not found');
    if (request.headers['x-api-key'] !== env.API_KEY) return answer(401, null, 'Unauthorized');
    let text = '';
    for await (const part of request) text += part;
    let body;
    try {
      body = text ? JSON.parse(text) : {};
    } catch {
      return answer(400, null, 'Bad JSON');
    }
    const route = pathname.slice('/api/v1/websocket/'.length);
    const status = /^user\/([^/]+)\/status$/.exec(route);
    const analysis = /^test\/analysis-events\/([^/]+)$/.exec(route);
    const sockets = [...io.of('/').sockets.values()];
    const ofUser = (user) => sockets.filter((socket) => socket.data.userId === user).length;
    if (request.method === 'GET' && route === 'stats') {
      const transport = (name) => sockets.filter((socket) => socket.conn.transport.name === name).length;
      return answer(200, {
        connected: io.engine.clientsCount, users: new Set(sockets.map((socket) => socket.data.userId)).size,
        rooms: io.of('/').adapter.rooms.size, transports: { websocket: transport('websocket'), polling: transport('polling') },
        instances: 1, shards: [], uptimeSeconds: process.uptime(), timestamp: new Date().toISOString(),
      });
    }
    if (request.method === 'GET' && status) {
      return answer(200, { userId: status[1], connected: ofUser(status[1]) > 0, sockets: ofUser(status[1]), instances: 1 });
    }
    if (request.method !== 'POST') return answer(404, null, 'Not found');
    if (route === 'emit/batch') return answer(200, body.map(emit));
    if (route === 'emit') return answer(200, emit(body));
    if (route === 'rooms/join') {
      io.of(body.namespace ?? '/').in(body.socketId ?? `user:${body.user}`).socketsJoin(body.room);
      return answer(200, { room: body.room, published: false });
    }
    function emit(body) {
      const { data } = body;
      const value = data !== null && typeof data === 'object' && !Array.isArray(data) ? { ...stamp(), ...data } : data;
      let to = io.of(body.namespace ?? '/');
      const users = body.users ?? (body.user ?? body.userId ? [body.user ?? body.userId] : []);
      for (const user of users) to = to.to(`user:${user}`);
      for (const room of body.rooms ?? (body.room ? [body.room] : [])) to = to.to(room);
      to.emit(body.event, ...(body.args ?? [value]));
      const rooms = [...users.map((user) => `user:${user}`), ...(body.rooms ?? (body.room ? [body.room] : []))];
      const members = io.of(body.namespace ?? '/').adapter.rooms;
      const delivered = body.broadcast ? sockets.length : rooms.reduce((sum, room) => sum + (members.get(room)?.size ?? 0), 0);
      return { delivered, published: false };
    }
    if (route === 'test/emit-to-user') {
      io.to(`user:${body.userId}`).emit(body.event, { message: body.message, ...stamp() });
      return answer(200, { delivered: ofUser(body.userId), published: false });
    }
    if (analysis) {
      const interviewId = body.interviewId ?? '64a7b8c9d1e2f3a4b5c6d7e8';
      const progress = (percent) => ['analysis:progress', { interviewId, message: `Analysis is ${percent}% done`, status: 'processing', progress: percent }];
      const steps = [
        ['analysis:started', { interviewId, message: 'Video analysis has started', status: 'processing' }],
        ...[0, 25, 50, 75, 100].map(progress),
        ['analysis:completed', { interviewId, message: 'Video analysis completed successfully', status: 'completed', analysis: { summary: 'Test', analyzedAt: new Date().toISOString(), fileSize: 15728640 } }],
        ['analysis:failed', { interviewId, message: 'Video analysis failed', status: 'failed', error: 'Video processing timeout', retryable: true, failedAt: new Date().toISOString() }],
      ];
      steps.forEach(([event, payload], at) => setTimeout(() => io.to(`user:${analysis[1]}`).emit(event, { ...payload, ...stamp() }), at * 300));
      return answer(200, { delivered: ofUser(analysis[1]) });
    }
    return answer(404, null, 'Not found');
  }
  listen(server, env.PORT);
  process.on('SIGTERM', () => {
    server.close();
    for (const socket of io.of('/').sockets.values()) socket.conn.close();
    setTimeout(() => process.exit(0), 100);
  });
}

function verify(token, key) {
  try {
    const [head, claims, signature] = String(token).split('.');
    const hash = { HS256: 'sha256', HS384: 'sha384', HS512: 'sha512' }[JSON.parse(Buffer.from(head, 'base64url')).alg];
    if (!hash) return null;
    const expected = createHmac(hash, key).update(`${head}.${claims}`).digest();
    const given = Buffer.from(signature, 'base64url');
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) return null;
    const value = JSON.parse(Buffer.from(claims, 'base64url'));
    if (value.exp !== undefined && !(typeof value.exp === 'number' && value.exp > Date.now() / 1000)) return null;
    if (value.nbf !== undefined && !(typeof value.nbf === 'number' && value.nbf <= Date.now() / 1000)) return null;
    return typeof value._id === 'string' && value._id && value._id.length <= 128 ? value._id : null;
  } catch {
    return null;
  }
}
