#!/usr/bin/env node
// check URL: does the server there run the benchmark's program? Asked with the stock client, and with ACCESS_TOKEN_SECRET.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import http from 'node:http';
import { createRequire } from 'node:module';

const { io } = createRequire(new URL('../../tests/interop/package.json', import.meta.url))('sio-client-4.8.4');
const url = process.argv[2];
const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

function token(id, secret = process.env.ACCESS_TOKEN_SECRET) {
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ _id: id, exp: Math.floor(Date.now() / 1000) + 60 })}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

const once = (socket, event) => new Promise((resolve) => socket.once(event, (...args) => resolve(args)));
const connect = (auth, transports) => io(url, { auth, transports, forceNew: true, reconnection: false });
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const ports = new Set();

function post(path, body) {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json' };
    const request = http.request(`${url}/api/v1/websocket/${path}`, { method: 'POST', agent, headers }, (response) => {
      ports.add(request.socket.localPort);
      let text = '';
      response.on('data', (chunk) => { text += chunk; });
      response.on('end', () => resolve(JSON.parse(text)));
    });
    request.on('error', reject);
    request.end(JSON.stringify(body));
  });
}

setTimeout(() => { console.error('no answer within 10 s'); process.exit(1); }, 10_000).unref();

for (const transports of [['websocket'], ['polling', 'websocket'], ['polling']]) {
  const alice = connect({ token: token('alice') }, transports);
  const [greeting] = await once(alice, 'connected');
  assert.deepEqual(Object.keys(greeting).sort(), ['message', 'server', 'socketId', 'timestamp', 'userId']);
  assert.deepEqual([greeting.userId, greeting.socketId], ['alice', alice.id]);

  for (const args of [['x'.repeat(64)], [1, { two: [3, null] }, 'four'], []]) {
    if (process.env.NO_ECHO === '1') break; // sockring's product ignores what clients emit
    const back = once(alice, 'message-back');
    alice.emit('message', ...args);
    assert.deepEqual(await back, args);
  }

  const bob = connect({ token: token('bob') }, transports);
  await once(bob, 'connected');
  let others = 0;
  bob.on('news', () => { others += 1; });
  const news = once(alice, 'news');
  const answer = await post('emit', { user: 'alice', event: 'news', data: { n: 1, timestamp: 2 } });
  assert.deepEqual(await news, [{ n: 1, timestamp: 2, server: greeting.server }]);
  assert.equal(answer.statusCode, 200);
  assert.equal(answer.success, true);
  assert.equal(answer.message, 'Event emitted');
  assert.equal(answer.data.published, false);
  assert.ok([0, 1].includes(answer.data.delivered));

  const all = [once(alice, 'all'), once(bob, 'all')];
  await post('emit', { broadcast: true, event: 'all', data: 'text' });
  assert.deepEqual(await Promise.all(all), [['text'], ['text']]);

  const both = [once(alice, 'a'), once(bob, 'b')];
  const batch = await post('emit/batch', [{ user: 'alice', event: 'a', data: 1 }, { user: 'bob', event: 'b', data: [2] }]);
  assert.deepEqual(await Promise.all(both), [[1], [[2]]]);
  assert.equal(batch.data.length, 2);
  assert.equal(others, 0);
  alice.close();
  bob.close();

  for (const auth of [{ token: token('alice', 'another secret') }, { token: 'x.y.z' }]) {
    const stranger = connect(auth, transports);
    const [error] = await once(stranger, 'connect_error');
    assert.equal(error.message, 'Authentication failed');
    stranger.close();
  }
}
assert.equal(ports.size, 1, 'the connection is kept');
console.log('ok');
process.exit(0);
