// Every client version over every choice of transports: welcome, upgrade, events of the HTTP API, nobody else's events.

import assert from 'node:assert/strict';
import { afterEach } from 'node:test';
import { startSockring } from '../lib/program.mjs';
import { api, emit } from '../lib/api.mjs';
import { Client, closeClients, transportChoices, versions } from '../lib/client.mjs';
import { tokenFor } from '../lib/jwt.mjs';
import { assertShape, shapes } from '../lib/payloads.mjs';
import { suite } from '../lib/suite.mjs';

const row = suite(() => startSockring({ SOCKRING_NAMESPACES: '/,/custom' }));
afterEach(closeClients);

let counter = 0;
const newUser = () => `64a7b8c9d1e2f3a4b5c6${String((counter += 1)).padStart(4, '0')}`;
const INTERVIEW = '64a7b8c9d1e2f3g4h5i6j7k8';

for (const version of versions) {
  for (const [words, transports] of transportChoices) {
    row(`socket.io-client ${version}, ${words}: welcome, transport, events, isolation`, async (target) => {
      const [user, other] = [newUser(), newUser()];
      const client = await Client.connected(version, target, { token: tokenFor(user), transports });
      assertShape(client.welcome, shapes.connected(user, client.socket.id), 'connected');
      if (transports === undefined) assert.equal(await client.upgrade(), 'websocket');
      assert.equal(client.transport, transports?.[0] ?? 'websocket');
      const stranger = await Client.connected(version, target, { token: tokenFor(other), transports });

      const given = { interviewId: INTERVIEW, message: 'Video analysis has started', status: 'processing' };
      const done = await emit(target, { event: 'analysis:started', data: given, user });
      assert.equal(done.delivered, 1, 'delivered');
      assert.equal(done.published, false, 'published (there is no bus)');
      assertShape(await client.event('analysis:started'), shapes.started(INTERVIEW), 'analysis:started');

      // The deployed page listens to names with an id in them; other fields pass as they are.
      await emit(target, { event: `analysis:completed:${INTERVIEW}`, data: { a: [1, null, { b: '\u{1f600}\u2028' }], timestamp: 'mine' }, userId: user });
      assert.deepEqual(await client.event(`analysis:completed:${INTERVIEW}`), { a: [1, null, { b: '\u{1f600}\u2028' }], timestamp: 'mine', server: 'development' });

      await emit(target, { event: 'several', args: ['one', 2, [true]], user });
      assert.deepEqual(await client.event('several'), ['one', 2, [true]]);

      const tested = await api(target, 'POST', '/test/emit-to-user', { userId: user, event: 'test:message', message: 'Hello from backend!' });
      assert.equal(tested.delivered, 1);
      assertShape(await client.event('test:message'), shapes.test('Hello from backend!'), 'test:message');

      await emit(target, { event: 'barrier', data: 1, users: [user, other] });
      assert.equal(await client.event('barrier'), 1);
      assert.equal(await stranger.event('barrier'), 1, 'another user has received nothing before');
    });
  }

  row(`socket.io-client ${version}: joinRoom is no error and grants nothing; binary to the server is survived`, async (target) => {
    const [user, other] = [newUser(), newUser()];
    const client = await Client.connected(version, target, { token: tokenFor(user) });
    client.socket.emit('joinRoom', { roomId: `user:${other}` });
    client.socket.emit('joinRoom', { roomId: 'secret' });
    client.socket.emit('blob', Buffer.from([1, 2, 3]), { deep: new Uint8Array([4, 5]).buffer });
    await client.upgrade();
    client.socket.emit('joinRoom', { roomId: other });
    client.socket.emit('blob', Buffer.alloc(100000, 9));
    for (const room of ['secret', `user:${other}`, other]) {
      const { delivered } = await emit(target, { event: 'stolen', data: {}, room });
      assert.equal(delivered, 0, `room ${room} is empty`);
    }
    await emit(target, { event: 'stolen', data: {}, user: other });
    await emit(target, { event: 'own', data: 'still here', room: `user:${user}` });
    assert.equal(await client.event('own'), 'still here');
    await emit(target, { event: 'direct', data: 'to the room of the socket', room: client.socket.id });
    assert.equal(await client.event('direct'), 'to the room of the socket');
    assert.deepEqual(client.disconnects.seen, []);
  });

  row(`socket.io-client ${version}: an ack that nobody gives does not break the client or the server`, async (target) => {
    const user = newUser();
    const client = await Client.connected(version, target, { token: tokenFor(user), transports: ['websocket'] });
    client.socket.emit('nobody-listens', 1, () => assert.fail('nobody answers'));
    await emit(target, { event: 'barrier', data: 'x', user });
    assert.equal(await client.event('barrier'), 'x');
  });

  row(`socket.io-client ${version}: a custom namespace shares the connection and is a world of its own`, async (target) => {
    const user = newUser();
    const main = await Client.connected(version, target, { token: tokenFor(user) });
    const custom = await Client.connected(version, target, { token: tokenFor(user), namespace: '/custom', manager: main.socket.io });
    assertShape(custom.welcome, shapes.connected(user, custom.socket.id), 'connected in /custom');
    assert.notEqual(custom.socket.id, main.socket.id);
    assert.equal(custom.socket.io, main.socket.io, 'one connection');
    await emit(target, { event: 'only-custom', data: 1, user, namespace: '/custom' });
    await emit(target, { event: 'only-main', data: 2, user });
    assert.equal(await custom.event('only-custom'), 1);
    assert.equal(await main.event('only-main'), 2);
    custom.socket.disconnect();
    assert.equal(await custom.disconnect(), 'io client disconnect');
    await emit(target, { event: 'main-stays', data: 3, user });
    assert.equal(await main.event('main-stays'), 3);

    const refused = await Client.create(version, target, { token: tokenFor(user), namespace: '/nope' });
    assert.equal((await refused.error()).message, 'Invalid namespace');
  });
}

row('the analysis events come in order, 300 ms apart, with the guide\'s payloads, in every version at once', async (target) => {
  const clients = await Promise.all(versions.map(async (version) => {
    const user = newUser();
    return { user, client: await Client.connected(version, target, { token: tokenFor(user) }) };
  }));
  const begun = performance.now();
  await Promise.all(clients.map(async ({ user, client }) => {
    await api(target, 'POST', `/test/analysis-events/${user}`, { interviewId: INTERVIEW });
    const what = `socket.io-client ${client.version}: `;
    assertShape(await client.event('analysis:started'), shapes.started(INTERVIEW), `${what}analysis:started`);
    for (const percent of [0, 25, 50, 75, 100]) {
      assertShape(await client.event('analysis:progress'), shapes.progress(INTERVIEW, percent), `${what}analysis:progress ${percent}`);
    }
    assertShape(await client.event('analysis:completed'), shapes.completed(INTERVIEW), `${what}analysis:completed`);
    assertShape(await client.event('analysis:failed'), shapes.failed(INTERVIEW), `${what}analysis:failed`);
  }));
  const took = performance.now() - begun;
  assert.ok(took > 1800 && took < 4500, `8 events, 300 ms apart, took ${took.toFixed(0)} ms; 2100 expected`);
});

row('analysis events without an interviewId still have one', async (target) => {
  const user = newUser();
  const client = await Client.connected('4.8.4', target, { token: tokenFor(user), transports: ['websocket'] });
  await api(target, 'POST', `/test/analysis-events/${user}`, {});
  const first = await client.event('analysis:started');
  assert.equal(typeof first.interviewId, 'string');
  assert.notEqual(first.interviewId, '');
});

row('a user with several clients gets an event on each, once', async (target) => {
  const user = newUser();
  const clients = await Promise.all(versions.map((version) => Client.connected(version, target, { token: tokenFor(user) })));
  const { delivered } = await emit(target, { event: 'everywhere', data: 1, user });
  assert.equal(delivered, versions.length);
  await emit(target, { event: 'barrier', data: 2, user });
  for (const client of clients) {
    assert.equal(await client.event('everywhere'), 1);
    assert.equal(await client.event('barrier'), 2);
  }
});

row('a broadcast reaches everyone; an emit to an offline user is 200 with delivered 0', async (target) => {
  const clients = await Promise.all(versions.map((version) => Client.connected(version, target, { token: tokenFor(newUser()) })));
  await emit(target, { event: 'maintenance:mode', data: { enabled: false }, broadcast: true });
  for (const client of clients) assertShape(await client.event('maintenance:mode'), { enabled: { is: false }, timestamp: 'iso', server: { is: 'development' } }, 'maintenance:mode');
  const { delivered } = await emit(target, { event: 'x', data: {}, user: newUser() });
  assert.equal(delivered, 0);
});
