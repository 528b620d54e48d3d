// sockring's HTTP API counts and moves the sockets of the whole cluster, those of Node servers too.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { api, call, userStatus } from '../lib/api.mjs';
import { closeClients } from '../lib/client.mjs';
import { adapters, connect, heard, peersAreNode, startNode, startPeer, startServers, stopServers } from '../lib/cluster.mjs';
import { Distance } from '../lib/distance.mjs';
import { RedisServer } from '../lib/redis.mjs';
import { pause, until } from '../lib/wait.mjs';

for (const adapter of adapters) {
  describe(`the API across the cluster, ${adapter} adapter`, { timeout: 60000, skip: peersAreNode && 'about sockring' }, () => {
    let redis;
    let servers;

    before(async () => {
      redis = await RedisServer.start();
      servers = await startServers(redis, adapter);
    });

    afterEach(closeClients);

    after(async () => {
      if (servers) await stopServers(servers);
      await redis?.stop();
    });

    const join = (body) => api(servers.A, 'POST', '/rooms/join', body);
    const leave = (body) => api(servers.A, 'POST', '/rooms/leave', body);
    const emit = (body) => api(servers.A, 'POST', '/emit', body);
    const everywhere = async (user) => {
      const clients = await Promise.all(['A', 'B', 'C', 'D'].map(async (letter) => [letter, await connect(servers[letter], user)]));
      await heard(redis, adapter, [['/', `user:${user}`, 4]]);
      return Object.fromEntries(clients);
    };
    const inRoom = (room, clients) => until(3000, `${clients.length} are in ${room}`, () => servers.C.ask('fetchSockets', { rooms: [room] }), (answer) => (
      JSON.stringify(answer.value?.map((one) => one.id).sort()) === JSON.stringify(clients.map((client) => client.socket.id).sort())
    ));

    test('a user status counts the sockets of all, and the instances that have some', async () => {
      const clients = await everywhere('counted');
      const second = await connect(servers.C, 'counted', { transports: ['polling'] });
      for (const letter of ['A', 'B']) {
        const { userId, connected, sockets, instances } = await userStatus(servers[letter], 'counted');
        assert.deepEqual({ userId, connected, sockets, instances }, { userId: 'counted', connected: true, sockets: 5, instances: 4 }, letter);
      }
      await clients.A.closed();
      await second.closed();
      await until(3000, 'they are gone', () => userStatus(servers.B, 'counted'), (status) => status.sockets === 3 && status.instances === 3);
      const none = await userStatus(servers.A, 'nobody');
      assert.deepEqual([none.connected, none.sockets, none.instances], [false, 0, 0]);
    });

    test('stats count the instances, and their sockets', async () => {
      await everywhere('stats');
      const stats = await api(servers.A, 'GET', '/stats');
      assert.equal(stats.instances, 4);
      assert.match(JSON.stringify(stats), /"connected":(4|1)\b/);
    });

    test('an emit says what was delivered here, and that it was published', async () => {
      const clients = await everywhere('emitted');
      assert.deepEqual(await emit({ event: 'e1', user: 'emitted', data: { a: 1 } }), { delivered: 1, published: true });
      assert.deepEqual(await emit({ event: 'e2', broadcast: true, args: [1, 'x'] }), { delivered: 1, published: true });
      assert.deepEqual(await emit({ event: 'e3', user: 'nobody' }), { delivered: 0, published: true });
      const batch = await api(servers.A, 'POST', '/emit/batch', [{ event: 'e4', user: 'emitted' }, { event: 'e5', users: ['emitted', 'nobody'], except: [clients.B.socket.id] }]);
      assert.deepEqual(batch, [{ delivered: 1, published: true }, { delivered: 1, published: true }]);
      const seen = [];
      for (const [letter, client] of Object.entries(clients)) {
        seen.push(await client.event('e1'));
        assert.deepEqual(await client.event('e2'), [1, 'x']);
        await client.event('e4');
        if (letter !== 'B') await client.event('e5');
      }
      for (const one of seen) assert.deepEqual(one, seen[0], 'the same time and server for all');
      assert.deepEqual(Object.keys(seen[0]).sort(), ['a', 'server', 'timestamp']);
      await pause(100);
      for (const [letter, client] of Object.entries(clients)) assert.equal(client.events.size, 0, letter);
    });

    test('rooms are joined and left by users and by sockets of other servers', async () => {
      const clients = await everywhere('roomy');
      const other = await connect(servers.D, 'roomy-other');
      await join({ user: 'roomy', room: 'api-room' });
      await inRoom('api-room', Object.values(clients));
      await join({ socketId: other.socket.id, room: 'api-room' });
      await inRoom('api-room', [...Object.values(clients), other]);
      await heard(redis, adapter, [['/', 'api-room', 4]]);
      await emit({ event: 'in', room: 'api-room' });
      for (const client of [...Object.values(clients), other]) await client.event('in');
      await leave({ user: 'roomy', room: 'api-room' });
      await inRoom('api-room', [other]);
      await leave({ socketId: other.socket.id, room: 'api-room' });
      await inRoom('api-room', []);
      await emit({ event: 'out', room: 'api-room' });
      await pause(150);
      for (const client of [...Object.values(clients), other]) assert.equal(client.events.size, 0);
    });

    test('who is on a Node server or another instance is disconnected, by user and by socket', async () => {
      for (const letter of ['B', 'C', 'D']) {
        const client = await connect(servers[letter], `ended-${letter}`);
        await api(servers.A, 'POST', '/disconnect', { user: `ended-${letter}` });
        assert.equal(await client.disconnect(), 'io server disconnect', letter);
        const second = await connect(servers[letter], `ended-${letter}`);
        await api(servers.A, 'POST', '/disconnect', { socketId: second.socket.id });
        assert.equal(await second.disconnect(), 'io server disconnect', letter);
        await until(3000, 'it is gone', () => userStatus(servers.A, `ended-${letter}`), (status) => !status.connected);
      }
    });

    test('who is to come back does so, but to a Node server, which has no such order', async () => {
      const [B, C] = await Promise.all(['B', 'C'].map((letter) => connect(servers[letter], `sent-${letter}`)));
      for (const letter of ['B', 'C']) await api(servers.A, 'POST', '/disconnect', { user: `sent-${letter}`, reconnect: true });
      assert.equal(await C.disconnect(), 'io server disconnect');
      await B.disconnect();
      await B.connectedNow();
      assert.deepEqual([B.connects.seen.length, C.connects.seen.length, C.socket.active], [2, 1, false]);
    });

    test('maintenance is told to all who are there, and to who connects to this instance', async () => {
      const clients = await everywhere('maintained');
      const { published } = await api(servers.A, 'POST', '/maintenance', { enabled: true, message: 'soon' });
      assert.equal(published, true);
      for (const client of Object.values(clients)) assert.equal((await client.event('maintenance:mode')).message, 'soon');
      const [here, there] = await Promise.all(['A', 'B'].map((letter) => connect(servers[letter], `later-${letter}`)));
      assert.equal((await here.event('maintenance:mode')).message, 'soon');
      await api(servers.A, 'POST', '/maintenance', { enabled: false });
      // The first that it hears of it is the end.
      for (const client of [here, there, ...Object.values(clients)]) assert.equal((await client.event('maintenance:mode')).enabled, false);
    });

    test('that an instance stops is told to its own clients', async () => {
      const F = await startPeer(redis, { name: 'F', adapter });
      const [own, other] = await Promise.all([F, servers.B].map((server) => connect(server, 'stopped')));
      await heard(redis, adapter, [['/', 'user:stopped', 2]]);
      F.signal('SIGTERM');
      await own.event('server:shutdown');
      await emit({ event: 'on', user: 'stopped' });
      await other.event('on');
      await F.exited;
    });

    test('no question costs more than a moment, and none fails', async () => {
      await everywhere('asked');
      const begun = performance.now();
      const answers = await Promise.all(Array.from({ length: 100 }, () => call(servers.A, 'GET', '/user/asked/status')));
      for (const answer of answers) assert.equal(answer.json().data.sockets, 4, answer.text);
      assert.ok(performance.now() - begun < 4500, `${performance.now() - begun} ms`);
    });

    test('who is confirmed to be in a room is reached there, where a subscription takes longer than an answer too', async () => {
      const far = await Distance.from(redis, 100);
      const E = await startNode(redis, { name: 'E', adapter, env: { SUBSCRIBER_URL: far.url } });
      // It asks about one namespace, and not about another one meanwhile.
      const F = await startPeer(redis, { name: 'F', adapter, env: { SOCKRING_NAMESPACES: '/' } });
      try {
        // Node listens before its subscriptions are through; an order that is sent before does not reach it.
        await until(8000, 'six servers hear of each other', () => E.ask('serverCount', { nsp: '/' }), (answer) => answer.value === 6);
        // Who is in the room already, here and there, says nothing of what E has subscribed.
        for (const letter of ['A', 'B', 'C']) await connect(servers[letter], 'in-many');
        await heard(redis, adapter, [['/', 'user:in-many', 3]]);
        for (let number = 0; number < 3; number += 1) {
          const [user, room] = [`late-${number}`, `late-room-${number}`];
          const client = await connect(E, user);
          await heard(redis, adapter, [['/', `user:${user}`, 1]]);
          for (const one of ['in-many', user]) assert.equal((await api(F, 'POST', '/rooms/join', { user: one, room })).confirmed, true, one);
          await api(F, 'POST', '/emit', { event: 'in', room });
          await client.event('in');
        }
      } finally {
        closeClients();
        await Promise.all([E.stop(), F.stop()]);
        await far.stop();
      }
    });

    test('no Node server has complained', async () => {
      for (const letter of ['C', 'D']) assert.deepEqual(await servers[letter].complaints(), [], letter);
    });
  });
}
