// Random operations of one sender, among two servers under test and two of Node, against a model: what a client gets is what
// one single server would have given it.
//   OPERATIONS=100000, SEED=7

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Emitter } from '@socket.io/redis-emitter';
import { createClient } from 'redis';
import { startServers, stopServers } from '../lib/cluster.mjs';
import { emitterDoes } from '../lib/emits.mjs';
import { gather } from '../lib/flock.mjs';
import { RedisServer } from '../lib/redis.mjs';
import { until } from '../lib/wait.mjs';

const OPERATIONS = Number(process.env.OPERATIONS ?? 2000);
const SEED = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
const USERS = 15;
const ROOMS = 8;
const AT_ONCE = 200;

/** Numbers below `below`, always the same ones for a seed. */
function chances(seed) {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

describe(`random operations, seed ${SEED}`, { timeout: 60000 + OPERATIONS * 20 }, () => {
  let redis;
  let servers;
  let client;
  let flock;
  const users = Array.from({ length: USERS }, (_, index) => `m${index}`);
  const rooms = Array.from({ length: ROOMS }, (_, index) => `room-${index}`);
  const sids = new Map();
  const got = new Map(users.map((user) => [user, []]));

  before(async () => {
    redis = await RedisServer.start();
    servers = await startServers(redis, 'classic');
    client = createClient({ url: redis.url });
    await client.connect();
    // Not on C, which sends: a Node server emits to its own sockets at once, and changes their rooms by way of Redis.
    flock = await gather(users.map((user, index) => [[servers.A, servers.B, servers.D][index % 3], user]), (user, bytes, begin, end) => {
      const [event, first] = JSON.parse(bytes.toString('utf8', begin, end));
      if (event === 'connected') sids.set(user, first.socketId);
      else got.get(user).push(first);
    });
    await until(5000, 'all know their sids', () => sids.size, (size) => size === USERS);
  });

  after(async () => {
    flock?.leave();
    client?.destroy();
    if (servers) await stopServers(servers);
    await redis?.stop();
  });

  for (const by of ['a Node server', 'redis-emitter']) {
    test(`by ${by}`, async () => {
      const chance = chances(SEED);
      const pick = (list) => list[chance(list.length)];
      const members = new Map(rooms.map((room) => [room, new Set()]));
      users.forEach((user) => members.set(`user:${user}`, new Set([user])).set(sids.get(user), new Set([user])));
      const wanted = new Map(users.map((user) => [user, []]));
      users.forEach((user) => got.set(user, []));
      const somebody = () => pick([pick(rooms), `user:${pick(users)}`, sids.get(pick(users))]);
      const some = (most) => Array.from({ length: 1 + chance(most) }, somebody);
      const inAny = (list) => new Set(list.flatMap((room) => [...members.get(room)]));

      const operation = (number) => {
        const selected = chance(20) === 0 ? [] : some(3);
        const reached = selected.length > 0 ? inAny(selected) : new Set(users);
        const changed = [pick(rooms), pick(rooms)];
        switch (chance(6)) {
          case 0:
            changed.forEach((room) => reached.forEach((user) => members.get(room).add(user)));
            return ['socketsJoin', { rooms: selected, join: changed }];
          case 1:
            changed.forEach((room) => reached.forEach((user) => members.get(room).delete(user)));
            return ['socketsLeave', { rooms: selected, leave: changed }];
          default: {
            const except = chance(4) === 0 ? some(2) : [];
            const without = inAny(except);
            reached.forEach((user) => !without.has(user) && wanted.get(user).push(number));
            return ['emit', { rooms: selected, except, args: ['e', number] }];
          }
        }
      };
      const emitter = new Emitter(client);
      for (let done = 0; done < OPERATIONS; done += AT_ONCE) {
        const steps = Array.from({ length: AT_ONCE }, (_, index) => operation(done + index));
        if (by === 'redis-emitter') {
          steps.forEach((step) => emitterDoes(emitter, step));
          // node-redis gives up what waits for long.
          await client.ping();
        } else await servers.C.ask('sequence', steps);
      }
      users.forEach((user) => wanted.get(user).push('end'));
      const end = ['emit', { rooms: [], args: ['e', 'end'] }];
      if (by === 'redis-emitter') emitterDoes(emitter, end);
      else await servers.C.ask('sequence', [end]);
      await until(20000, 'all have come to the end', () => users.filter((user) => got.get(user).at(-1) !== 'end'), (list) => list.length === 0);
      for (const user of users) assert.deepEqual(got.get(user), wanted.get(user), user);
      // The next one begins with empty rooms.
      if (by === 'a Node server') await servers.C.ask('sequence', [['socketsLeave', { rooms: [], leave: rooms }], ['emit', { rooms: [], args: ['e', 'over'] }]]);
      await until(5000, 'all have left', () => (by === 'a Node server' ? users.filter((user) => got.get(user).at(-1) !== 'over') : []), (list) => list.length === 0);
    });
  }
});
