// What the Node and the Bun server have in common: all of the program but the engine and the HTTP server under it.
//
// `verify(token, key)` gives the claims of a valid token and throws (or rejects) otherwise.

import { createSecretKey } from 'node:crypto';

const NAME = process.env.SERVER_NAME ?? 'development';
const NO_AUTH = process.env.NO_AUTH === '1';

// A key made once: given the bare secret, jsonwebtoken tries to read it as a public key first, which costs Node 0.3 ms a token.
const KEY = NO_AUTH ? undefined : secretKey(process.env.ACCESS_TOKEN_SECRET);

function secretKey(secret) {
  if (secret) return createSecretKey(Buffer.from(secret));
  console.error('ACCESS_TOKEN_SECRET is not set (nor NO_AUTH=1)');
  process.exit(2);
}

export function serve(io, verify) {
  if (!NO_AUTH) io.use((socket, next) => admit(socket, next, verify));
  io.on('connection', (socket) => {
    const userId = socket.data.userId ?? socket.id;
    socket.join(`user:${userId}`);
    socket.on('message', (...args) => socket.emit('message-back', ...args));
    socket.emit('connected', {
      message: 'Connected to the notification server',
      userId,
      socketId: socket.id,
      timestamp: new Date().toISOString(),
      server: NAME,
    });
  });
}

async function admit(socket, next, verify) {
  let userId;
  try {
    userId = (await verify(socket.handshake.auth.token, KEY))._id;
  } catch {
    // What is wrong with a token is not for the client to know.
  }
  if (typeof userId !== 'string' || userId === '') return next(new Error('Authentication failed'));
  socket.data.userId = userId;
  next();
}

const refused = { statusCode: 400, data: null, message: 'Invalid request', success: false };

// The answer to POST /api/v1/websocket/emit, given the request's text.
export function emit(io, text) {
  const body = parse(text);
  if (!isEmit(body)) return refused;
  return { statusCode: 200, data: emitOne(io, body), message: 'Event emitted', success: true };
}

// The answer to POST /api/v1/websocket/emit/batch.
export function emitBatch(io, text) {
  const list = parse(text);
  if (!Array.isArray(list) || !list.every(isEmit)) return refused;
  return { statusCode: 200, data: list.map((body) => emitOne(io, body)), message: 'Events emitted', success: true };
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const isEmit = (body) =>
  typeof body?.event === 'string' && (body.broadcast === true || typeof body.user === 'string');

function emitOne(io, body) {
  const data = stamped(body.data);
  if (body.broadcast === true) {
    io.emit(body.event, data);
    return { delivered: io.of('/').sockets.size, published: false };
  }
  const room = `user:${body.user}`;
  io.to(room).emit(body.event, data);
  return { delivered: io.of('/').adapter.rooms.get(room)?.size ?? 0, published: false };
}

// As in sockring, an object says when and where it was sent; so the bytes on the wire are the same.
function stamped(data) {
  if (typeof data !== 'object' || data === null || Array.isArray(data)) return data;
  data.timestamp ??= new Date().toISOString();
  data.server ??= NAME;
  return data;
}
