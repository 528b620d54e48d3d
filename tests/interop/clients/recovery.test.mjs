// Clients whose connection breaks get what they missed, in order and once, from 4.6 on.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { api, emit, stats, userStatus } from '../lib/api.mjs';
import { Client, closeClients } from '../lib/client.mjs';
import { startWay } from '../lib/cut.mjs';
import { request } from '../lib/http.mjs';
import { tokenFor } from '../lib/jwt.mjs';
import { apiKey, startSockring } from '../lib/program.mjs';
import { pause, until } from '../lib/wait.mjs';

const VERSIONS = ['4.8.4', '4.6.0'];
const WAYS = [['websocket'], ['polling'], ['polling', 'websocket']];

let count = 0;
const newUser = () => `back-${(count += 1)}`;

/** Runs `body` with a server, a way to it that breaks, and what makes clients that use it. */
async function scene(env, body) {
  const target = await startSockring(env);
  const way = await startWay(target);
  const open = async (version, transports, user) => {
    const client = await Client.connected(version, way, { token: tokenFor(user), transports });
    if (transports?.length === 2) await client.upgrade();
    return client;
  };
  try {
    await body({ target, way, open });
    target.assertAlive();
  } finally {
    closeClients();
    await way.stop();
    await target.stop();
  }
}

/** The next so many events have these numbers. */
async function expectNumbers(client, numbers) {
  for (const number of numbers) assert.equal(await client.event('n', 10000), number);
}

async function comesBack(client) {
  await client.connects.next(10000, `socket.io-client ${client.version} comes back`);
}

const metric = async (target, name) => {
  const { body } = await request(target, '/metrics', { headers: { 'x-api-key': apiKey } });
  return body.toString().split('\n').filter((line) => line.startsWith(name)).reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
};

afterEach(closeClients);

for (const version of VERSIONS) {
  for (const transports of WAYS) {
    for (const shards of ['1', '4']) {
      test(`${version} over ${transports}, ${shards} shards: what came meanwhile comes in order, once, behind the CONNECT answer`, { timeout: 30000 }, () => scene({ SOCKRING_SHARDS: shards }, async ({ target, way, open }) => {
        const user = newUser();
        const client = await open(version, transports, user);
        const id = client.socket.id;
        assert.equal(client.welcome.recovered, undefined);
        await api(target, 'POST', '/rooms/join', { user, room: 'news' });
        // Twice: the second time with the same pid and a later offset. The first time nothing came before.
        for (const round of [0, 10]) {
          way.close();
          await client.disconnect();
          await emit(target, { event: 'n', data: round + 1, user });
          await emit(target, { event: 'n', data: round + 2, room: 'news' });
          await emit(target, { event: 'n', data: round + 3, broadcast: true });
          await emit(target, { event: 'n', data: round + 4, user, volatile: true });
          await emit(target, { event: 'n', data: round + 5, user });
          way.open();
          await comesBack(client);
          assert.deepEqual([client.socket.recovered, client.socket.id], [true, id]);
          await expectNumbers(client, [1, 2, 3, 5].map((number) => round + number));
          const welcome = await client.event('connected');
          assert.deepEqual([welcome.recovered, welcome.socketId], [true, id]);
          const { delivered } = await emit(target, { event: 'n', data: round + 6, room: 'news' });
          assert.equal(delivered, 1);
          await expectNumbers(client, [round + 6]);
        }
        assert.equal(client.events.size, 0);
        // It is found under the name that it has.
        await api(target, 'POST', '/disconnect', { socketId: id });
        await client.disconnect();
      }));
    }
  }
}

for (const version of VERSIONS) {
  for (const transports of [['websocket'], ['polling']]) {
    test(`${version} over ${transports}: who is back before the server has noticed takes over its own socket`, { timeout: 30000 }, () => scene({ SOCKRING_USER_CONNECTIONS_MAX: '1' }, async ({ target, way, open }) => {
      const user = newUser();
      const client = await open(version, transports, user);
      const id = client.socket.id;
      await emit(target, { event: 'n', data: 1, user });
      await expectNumbers(client, [1]);
      way.hang();
      assert.equal((await emit(target, { event: 'n', data: 2, user })).delivered, 1);
      await emit(target, { event: 'n', data: 3, user });
      // As the network changes: nothing is said any more by the old way.
      client.socket.io.engine.transport.onClose();
      await comesBack(client);
      assert.deepEqual([client.socket.recovered, client.socket.id], [true, id]);
      await expectNumbers(client, [2, 3]);
      await client.event('connected');
      assert.equal(await metric(target, 'sockring_taken_over_total'), 1);
      assert.equal((await userStatus(target, user)).sockets, 1);
    }));
  }
}

test('who is told by heartbeats how far it has got comes back long after its last event', { timeout: 30000 }, () => scene({ SOCKRING_RECOVERY_WINDOW_S: '1', SOCKRING_PING_INTERVAL_MS: '300', SOCKRING_PING_TIMEOUT_MS: '200' }, async ({ target, way, open }) => {
  const [user, other] = [newUser(), newUser()];
  const client = await open('4.8.4', ['websocket'], user);
  await open('4.8.4', ['websocket'], other);
  await emit(target, { event: 'n', data: 1, user });
  await expectNumbers(client, [1]);
  for (let rest = 0; rest < 20; rest += 1) {
    await emit(target, { event: 'n', data: 0, user: other });
    await pause(200);
  }
  way.close();
  await client.disconnect();
  await emit(target, { event: 'n', data: 2, user });
  way.open();
  await comesBack(client);
  assert.equal(client.socket.recovered, true);
  await expectNumbers(client, [2]);
}));

test('who comes back too late, or as somebody else, begins anew and gets nothing of what was', { timeout: 30000 }, () => scene({ SOCKRING_SHARDS: '1', SOCKRING_RECOVERY_WINDOW_S: '1', SOCKRING_PING_INTERVAL_MS: '300', SOCKRING_PING_TIMEOUT_MS: '200' }, async ({ target, way, open }) => {
  const [user, other] = [newUser(), newUser()];
  const client = await open('4.8.4', ['websocket'], user);
  const id = client.socket.id;
  way.close();
  await client.disconnect();
  await emit(target, { event: 'n', data: 1, user });
  client.socket.auth = { token: tokenFor(other) };
  way.open();
  await comesBack(client);
  assert.equal(client.socket.recovered, false);
  assert.notEqual(client.socket.id, id);
  assert.equal((await client.event('connected')).userId, other);
  assert.equal(await metric(target, 'sockring_recoveries_total{shard="0",result="unknown_pid"}'), 1);
  way.close();
  await client.disconnect();
  await until(10000, 'all is forgotten', async () => [await metric(target, 'sockring_lingering_rooms'), (await stats(target)).recovery.events], (left) => left.join() === '0,0');
  way.open();
  await comesBack(client);
  assert.equal(client.socket.recovered, false);
  await client.event('connected');
  assert.equal(client.events.size, 0);
  assert.deepEqual((await stats(target)).recovery, { events: 0, bytes: 0, oldestSeconds: 0 });
}));

test('who was disconnected gets its user\'s events, and is not in the rooms that it was put into', { timeout: 30000 }, () => scene({}, async ({ target, open }) => {
  const user = newUser();
  const client = await open('4.8.4', ['websocket'], user);
  await api(target, 'POST', '/rooms/join', { user, room: 'news' });
  await api(target, 'POST', '/disconnect', { user });
  assert.equal(await client.disconnect(), 'io server disconnect');
  await emit(target, { event: 'n', data: 1, user });
  await emit(target, { event: 'n', data: 2, room: 'news' });
  client.socket.connect();
  await comesBack(client);
  assert.equal(client.socket.recovered, false);
  await expectNumbers(client, [1]);
  assert.equal((await client.event('connected')).recovered, undefined);
  assert.equal((await emit(target, { event: 'n', data: 3, room: 'news' })).delivered, 0);
}));

test('positions as an argument: nothing comes twice, and handlers see it last', { timeout: 30000 }, () => scene({ SOCKRING_RECOVERY_OFFSET: 'argument' }, async ({ target, way, open }) => {
  const user = newUser();
  const client = await Client.create('4.8.4', way, { token: tokenFor(user), transports: ['websocket'] });
  await client.connectedNow();
  way.close();
  await client.disconnect();
  await emit(target, { event: 'n', data: 1, user });
  way.open();
  await comesBack(client);
  assert.equal(client.socket.recovered, true);
  const [number, offset] = await client.event('n');
  assert.equal(number, 1);
  assert.match(offset, /^~[\w-]{7,}$/);
  const [{ recovered }] = await client.event('connected');
  assert.equal(recovered, true);
}));

for (const transports of [['websocket'], ['polling']]) {
  test(`a client over ${transports} that reads slowly gets all of it as it reads`, { timeout: 60000 }, () => scene({ SOCKRING_QUEUE_BYTES_MAX: '65536' }, async ({ target, way, open }) => {
    const user = newUser();
    const client = await open('4.8.4', transports, user);
    way.pause();
    const text = 'x'.repeat(20000);
    const most = 800;
    for (let number = 0; number < most; number += 1) await emit(target, { event: 'long', data: { number, text }, user });
    assert.equal(await metric(target, 'sockring_behind_clients'), 1);
    way.resume();
    for (let number = 0; number < most; number += 1) assert.equal((await client.event('long', 10000)).number, number);
    await emit(target, { event: 'n', data: 1, user });
    await expectNumbers(client, [1]);
    await until(2000, 'it is not behind any more', () => metric(target, 'sockring_behind_clients'), (behind) => behind === 0);
    assert.equal(client.disconnects.seen.length, 0);
  }));
}
