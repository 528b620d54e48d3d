// Who receives a message is who holds its user: Redis' own counters say so, for many users, and again after a restart.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { createClient } from 'redis';
import { publishing, peersAreNode, startPeer } from '../lib/cluster.mjs';
import { gather } from '../lib/flock.mjs';
import { pack } from '../lib/msgpack.mjs';
import { RedisServer } from '../lib/redis.mjs';
import { until } from '../lib/wait.mjs';

// With recovery, rooms of who is away stay subscribed until it is too late to come back.
const RECOVERY = { SOCKRING_RECOVERY_WINDOW_S: '0' };
const USERS = Number(process.env.USERS ?? 2000);
const RESUBSCRIPTION_MS = 5000;
const LINGER_MS = 12000;

for (const adapter of publishing) {
  const sharded = adapter === 'sharded';
  // Node's classic adapter subscribes to everything by a pattern: each of its servers receives each message.
  const receivers = peersAreNode && !sharded ? 2 : 1;
  const channel = (user) => `socket.io#/#user:${user}#`;
  const count = sharded ? 'SHARDNUMSUB' : 'NUMSUB';

  describe(`receivers, ${adapter} adapter`, { timeout: 90000 }, () => {
    let redis;
    let servers;
    let client;
    let flock;
    const users = Array.from({ length: USERS }, (_, index) => `user-${index}`);
    const got = new Map();

    before(async () => {
      redis = await RedisServer.start();
      servers = await Promise.all([startPeer(redis, { name: 'A', adapter, env: RECOVERY }), startPeer(redis, { name: 'B', adapter, env: RECOVERY })]);
      client = createClient({ url: redis.url, socket: { reconnectStrategy: 50 } });
      client.on('error', () => {});
      await client.connect();
      flock = await gather(users.map((user, index) => [servers[index % 2], user]), (user, bytes, begin, end) => {
        const [event] = JSON.parse(bytes.toString('utf8', begin, end));
        if (event !== 'connected') got.set(user, [...(got.get(user) ?? []), event]);
      });
    });

    after(async () => {
      flock?.leave();
      client?.destroy();
      for (const server of servers ?? []) await server.stop();
      await redis?.stop();
    });

    const message = (user, event) => (sharded
      ? Buffer.from(JSON.stringify({ type: 3, data: { packet: { type: 2, data: [event] }, opts: { rooms: [`user:${user}`], except: [], flags: {} } }, uid: 'fedcba9876543210', nsp: '/' }))
      : pack(['emitter', { type: 2, data: [event], nsp: '/' }, { rooms: [`user:${user}`], except: [], flags: {} }]));

    /** One message to each, in pipelines; gives how many connections each was given to. */
    async function publish(list, event) {
      const replies = await Promise.all(list.map((user) => client.sendCommand([sharded ? 'SPUBLISH' : 'PUBLISH', channel(user), message(user, event)])));
      return replies.map(Number);
    }

    const subscribed = async () => {
      const numbers = await client.sendCommand(['PUBSUB', count, ...users.map(channel)]);
      return numbers.filter((_, index) => index % 2 === 1).map(Number);
    };

    test(`each message to one of ${USERS} users is received by one connection, and reaches the user once`, async () => {
      if (receivers === 1) {
        // Who has been told that it is connected is subscribed already: nothing to wait for. Node has its own way.
        const numbers = peersAreNode ? await until(5000, 'all are subscribed', subscribed, (list) => list.every((one) => one === 1)) : await subscribed();
        assert.deepEqual(numbers.filter((one) => one !== 1), [], 'each channel has one subscriber');
      }
      const replies = await publish(users, 'first');
      assert.deepEqual(replies.filter((one) => one !== receivers), []);
      await until(5000, 'all have it', () => got.size, (size) => size === USERS);
      assert.deepEqual([...got.values()].filter((events) => events.join() !== 'first'), []);
      if (peersAreNode) return;
      const nobody = await publish(['nobody', 'user-', `user-${USERS}`], 'x');
      assert.deepEqual(nobody, [0, 0, 0], 'messages for who is not there are given to nobody');
    });

    test('the connections share the rooms, and there are few of them', { skip: peersAreNode && 'about sockring' }, async () => {
      const list = String(await redis.command('CLIENT', 'LIST')).trim().split('\n');
      const rooms = list.map((line) => Number(/ sub=(\d+)/.exec(line)[1]) + Number(/ ssub=(\d+)/.exec(line)?.[1] ?? 0)).filter((number) => number > 50);
      assert.ok(rooms.length >= 2 && rooms.length <= 4, `two instances of two shards: ${rooms}`);
      for (const number of rooms) assert.ok(number > USERS / rooms.length / 2, `even shares: ${rooms}`);
    });

    // node-redis 6.3.1 restores some of its sharded subscriptions only: 588 of 2,000 in one run.
    test(`all channels are back within ${RESUBSCRIPTION_MS} ms of a restart of Redis`, { skip: peersAreNode && sharded && 'node-redis does not bring all back' }, async () => {
      await redis.kill();
      got.clear();
      await redis.begin();
      const begun = Date.now();
      if (receivers === 1) {
        await until(RESUBSCRIPTION_MS, 'all are subscribed', async () => (await subscribed().catch(() => [])).filter((one) => one === 1).length, (number) => number === USERS, 20);
      } else {
        await until(RESUBSCRIPTION_MS, 'both are subscribed', () => publish(['nobody'], 'x').catch(() => [0]), ([one]) => one === receivers, 20);
      }
      const took = Date.now() - begun;
      const replies = await publish(users, 'again');
      assert.deepEqual(replies.filter((one) => one !== receivers), []);
      await until(5000, 'all have it', () => got.size, (size) => size === USERS);
      assert.deepEqual([...got.values()].filter((events) => events.join() !== 'again'), []);
      assert.ok(took < RESUBSCRIPTION_MS, `${took} ms`);
    });

    test('who leaves is unsubscribed', { skip: peersAreNode && 'about sockring' }, async () => {
      flock.leave();
      await until(LINGER_MS, 'nothing is subscribed to any more', async () => (await subscribed()).filter((one) => one > 0).length, (number) => number === 0, 200);
    });
  });
}
