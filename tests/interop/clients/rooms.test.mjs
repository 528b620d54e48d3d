// What a backend does to sockets by the HTTP API: rooms, batches, disconnects, maintenance.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { afterEach } from 'node:test';
import { isMarker } from '../lib/marker.mjs';
import { startSockring } from '../lib/program.mjs';
import { api, call, emit, stats } from '../lib/api.mjs';
import { Client, closeClients } from '../lib/client.mjs';
import { tokenFor } from '../lib/jwt.mjs';
import { suite } from '../lib/suite.mjs';
import { within } from '../lib/wait.mjs';

const row = suite(() => startSockring());
afterEach(closeClients);

const join = (target, body) => api(target, 'POST', '/rooms/join', body);
const leave = (target, body) => api(target, 'POST', '/rooms/leave', body);
const connect = (target, user, options) => Client.connected('4.8.4', target, { token: tokenFor(user), transports: ['websocket'], ...options });

/** The names of a client's events before the one called `end`. */
const namesUntil = (client, end) => within(5000, `an event called ${end}`, new Promise((resolve) => {
  const names = [];
  client.socket.onAny((name) => {
    if (name === end) resolve(names);
    else if (!isMarker(name)) names.push(name);
  });
}));

row('rooms: joined by user and by socket id, emitted to with except, left again', async (target) => {
  const [a, b, c] = [await connect(target, 'room-a'), await connect(target, 'room-b'), await connect(target, 'room-c')];
  assert.deepEqual(await join(target, { user: 'room-a', room: 'news' }), { room: 'news', sockets: 1, published: false });
  assert.deepEqual(await join(target, { userId: 'room-a', room: 'news' }), { room: 'news', sockets: 1, published: false });
  assert.deepEqual(await join(target, { socketId: b.socket.id, room: 'news' }), { room: 'news', sockets: 1, published: false });
  assert.deepEqual(await join(target, { user: 'nobody', room: 'news' }), { room: 'news', sockets: 0, published: false });
  const heard = [a, b, c].map((client) => namesUntil(client, 'end'));
  assert.equal((await emit(target, { event: 'to-news', room: 'news' })).delivered, 2);
  assert.equal((await emit(target, { event: 'to-both', rooms: ['news', 'user:room-a', 'user:room-c'] })).delivered, 3);
  assert.equal((await emit(target, { event: 'not-to-b', rooms: ['news'], except: [b.socket.id] })).delivered, 1);
  assert.equal((await emit(target, { event: 'not-to-a', broadcast: true, except: ['user:room-a'] })).delivered, 2);
  assert.deepEqual(await leave(target, { user: 'room-a', room: 'news' }), { room: 'news', sockets: 1, published: false });
  assert.deepEqual(await leave(target, { user: 'room-a', room: 'news' }), { room: 'news', sockets: 0, published: false });
  assert.equal((await emit(target, { event: 'to-b', room: 'news' })).delivered, 1);
  await emit(target, { event: 'end', broadcast: true });
  assert.deepEqual(await Promise.all(heard), [
    ['to-news', 'to-both', 'not-to-b'],
    ['to-news', 'to-both', 'not-to-a', 'to-b'],
    ['to-both', 'not-to-a'],
  ]);
});

row('the room of a user is nobody else\'s', async (target) => {
  await connect(target, 'owner');
  for (const route of ['/rooms/join', '/rooms/leave']) {
    const response = await call(target, 'POST', route, { user: 'thief', room: 'user:owner' });
    assert.equal(response.status, 422, route);
    assert.equal(response.json().errors[0].path, 'room');
  }
});

row('a batch has a result for each entry, in order, and a bad one spoils no other', async (target) => {
  const client = await connect(target, 'batch');
  const heard = namesUntil(client, 'last');
  const results = await api(target, 'POST', '/emit/batch', [
    { event: 'first', user: 'batch' },
    { event: 'connect', user: 'batch' },
    { event: 'unheard', user: 'nobody' },
    { event: 'second', user: 'batch', surprise: 1 },
    { event: 'third', users: ['batch', 'nobody'] },
    { event: 'last', user: 'batch' },
  ]);
  assert.deepEqual(results.map((one) => one.delivered ?? one.errors[0].path), [1, '[1].event', 0, '[3].surprise', 1, 1]);
  assert.deepEqual(await heard, ['first', 'third']);
  const many = Array.from({ length: 1000 }, (_, index) => ({ event: 'n', user: 'nobody', data: index }));
  assert.equal((await api(target, 'POST', '/emit/batch', many)).length, 1000);
  for (const body of [[...many, many[0]], [], [1], {}, 'x']) {
    assert.ok([400, 422].includes((await call(target, 'POST', '/emit/batch', body)).status));
  }
});

row('disconnect: for good by default, with reconnect: true the client comes back', async (target) => {
  for (const transports of [['websocket'], ['polling']]) {
    const user = `ended-${transports[0]}`;
    const client = await connect(target, user, { transports });
    const ended = once(client.socket, 'disconnect');
    assert.deepEqual(await api(target, 'POST', '/disconnect', { user, reconnect: true }), { sockets: 1, published: false });
    assert.ok(['transport close', 'transport error'].includes((await ended)[0]));
    await once(client.socket, 'connect');
    const forGood = once(client.socket, 'disconnect');
    assert.deepEqual(await api(target, 'POST', '/disconnect', { socketId: client.socket.id }), { sockets: 1, published: false });
    assert.equal((await forGood)[0], 'io server disconnect');
    assert.equal((await emit(target, { event: 'x', user })).delivered, 0);
  }
});

row('maintenance is told to all, and to who comes while it lasts', async (target) => {
  const early = await connect(target, 'early');
  const on = { enabled: true, message: 'back soon', until: '2030-01-01T00:00:00.000Z' };
  assert.deepEqual(await api(target, 'POST', '/maintenance', on), { enabled: true, delivered: 1, published: false });
  const told = await early.event('maintenance:mode');
  assert.deepEqual({ ...told, timestamp: '' }, { ...on, timestamp: '', server: 'development' });
  const late = await connect(target, 'late');
  assert.deepEqual(await late.event('maintenance:mode'), told);
  await api(target, 'POST', '/maintenance', { enabled: false });
  assert.equal((await late.event('maintenance:mode')).enabled, false);
  const after = await connect(target, 'after');
  const heard = namesUntil(after, 'end');
  await emit(target, { event: 'end', user: 'after' });
  assert.deepEqual(await heard, []);
});

row('rooms and users are gone with their sockets', async (target) => {
  const client = await connect(target, 'leaver');
  await join(target, { user: 'leaver', room: 'short-lived' });
  const before = await stats(target);
  assert.ok(before.rooms >= 2);
  client.socket.disconnect();
  for (;;) {
    const now = await stats(target);
    if (now.rooms === before.rooms - 2 && now.users === before.users - 1) break;
  }
});
