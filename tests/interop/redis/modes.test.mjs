// The sharded adapter in each of its modes: what a server sends on which channel, the others hear.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { api } from '../lib/api.mjs';
import { closeClients } from '../lib/client.mjs';
import { assembled, connect, peersAreNode, startNode, startPeer, stopServers } from '../lib/cluster.mjs';
import { RedisServer } from '../lib/redis.mjs';
import { until } from '../lib/wait.mjs';

// With recovery, rooms of who is away stay subscribed until it is too late to come back.
const RECOVERY = { SOCKRING_RECOVERY_WINDOW_S: '0' };

for (const mode of ['dynamic', 'dynamic-private', 'static']) {
  describe(`sharded adapter, ${mode}`, { timeout: 60000 }, () => {
    let redis;
    let servers;
    const clients = {};

    before(async () => {
      redis = await RedisServer.start();
      const [A, B, C] = await Promise.all([
        startPeer(redis, { name: 'A', adapter: 'sharded', env: { ...RECOVERY, SOCKRING_REDIS_SUBSCRIPTION_MODE: mode, MODE: mode } }),
        startPeer(redis, { name: 'B', adapter: 'sharded', env: { ...RECOVERY, SOCKRING_REDIS_SUBSCRIPTION_MODE: mode, MODE: mode } }),
        startNode(redis, { name: 'C', adapter: 'sharded', env: { MODE: mode } }),
      ]);
      servers = { A, B, C };
      await assembled(C, 3);
      for (const letter of ['A', 'B', 'C']) clients[letter] = await connect(servers[letter], `user-${letter}`);
    });

    after(async () => {
      closeClients();
      if (servers) await stopServers(servers);
      await redis?.stop();
    });

    const got = (letter, event) => until(5000, `${letter} has ${event}`, () => clients[letter].events.seen.some(([name]) => name === event));

    test('a user, a socket and everybody are reached from each server on each other', async () => {
      await until(5000, 'the room of the user on Node is heard', async () => (mode === 'static' ? 1 : redis.subscribers('socket.io#/#user:user-C#', 'SHARDNUMSUB')), (count) => count === 1);
      for (const from of ['A', 'B', 'C']) {
        for (const to of ['A', 'B', 'C']) {
          await servers[from].emit({ rooms: [`user:user-${to}`], args: [`${from} to user ${to}`, 1] });
          await servers[from].emit({ rooms: [clients[to].socket.id], args: [`${from} to socket ${to}`, 1] });
        }
        await servers[from].emit({ args: [`${from} to all`, 1] });
      }
      for (const from of ['A', 'B', 'C']) {
        for (const to of ['A', 'B', 'C']) {
          for (const event of [`${from} to user ${to}`, `${from} to socket ${to}`, `${from} to all`]) await got(to, event);
        }
      }
      for (const letter of ['A', 'B', 'C']) {
        const events = clients[letter].events.seen.map(([name]) => name).filter((name) => / to /.test(name));
        assert.equal(new Set(events).size, 9, `each once: ${events}`);
        assert.equal(events.length, 9, `each once: ${events}`);
      }
    });

    test('who is joined by a server is in the room for all of them, and its sockets are counted', async () => {
      await servers.C.ask('socketsJoin', { rooms: ['user:user-A', 'user:user-B', 'user:user-C'], join: ['news'] });
      const found = () => servers.C.ask('fetchSockets', { rooms: ['news'] });
      await until(5000, 'all are in', found, ({ value }) => value?.length === 3);
      if (mode !== 'static') await until(5000, 'all are heard', () => redis.subscribers('socket.io#/#news#', 'SHARDNUMSUB'), (count) => count >= 3);
      for (const from of ['A', 'B', 'C']) await servers[from].emit({ rooms: ['news'], args: [`news by ${from}`, 1] });
      for (const from of ['A', 'B', 'C']) for (const to of ['A', 'B', 'C']) await got(to, `news by ${from}`);
    });

    test('the channels are those of the mode, and given up', { skip: peersAreNode && 'Node gives them up at once' }, async () => {
      const { id } = clients.B.socket;
      const channels = () => redis.channels('*', 'SHARDCHANNELS');
      const has = async (room) => (await channels()).includes(`socket.io#/#${room}#`);
      assert.equal(await has('user:user-B'), mode !== 'static');
      assert.equal(await has(id), mode === 'dynamic-private');
      clients.B.close();
      await until(8000, 'its channels are given up', async () => !(await has('user:user-B')) && !(await has(id)));
      assert.equal((await api(servers.A, 'POST', '/emit', { room: id, event: 'gone' })).data?.delivered ?? 0, 0);
    });
  });
}
