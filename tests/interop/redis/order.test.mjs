// One sender, one order: what a Node server, an emitter or a caller of the API sends and orders one after the other happens in
// that order at every client, however far away Redis is, and on however many shards its members are.
//   ORDER=all: every number of shards and every distance, or 1:20,4:5: one shard and Redis 20 ms away, four and 5 ms;
//   TRIES=480: so many of each sequence

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Emitter } from '@socket.io/redis-emitter';
import { createClient } from 'redis';
import { api } from '../lib/api.mjs';
import { adapters, assembled, heard, peersAreNode, startNode, startPeer } from '../lib/cluster.mjs';
import { Distance } from '../lib/distance.mjs';
import { emitterDoes } from '../lib/emits.mjs';
import { gather } from '../lib/flock.mjs';
import { RedisServer } from '../lib/redis.mjs';
import { pause, until } from '../lib/wait.mjs';

const TRIES = Number(process.env.TRIES ?? 60);
const USERS = 12;
const AT_ONCE = 2;
/** Nothing has come for so long: it is lost. What is on its way would be taken for the next sequence's. */
const SETTLE_MS = 20_000;
/** How long Node may take to do a sequence, on a busy machine. */
const SEQUENCE_MS = 120_000;
/** What instances do not confirm within a second, as on a busy machine, is ordered again. */
const CONFIRMED_MS = 5000;
const { ORDER } = process.env;
/** Shards, and milliseconds between them and Redis. */
const placesFrom = (list) => list.split(',').map((place) => place.split(':').map(Number));
const PLACES = ORDER === 'all'
  ? [1, 2, 4].flatMap((shards) => [0, 1, 5, 20].map((ms) => [shards, ms]))
  : placesFrom(ORDER ?? '1:5,2:0,4:1,2:20');

/** What is in a stream has its order there, wherever it is read. */
const placesOf = (adapter) => (adapter === 'streams' && ORDER === undefined ? [[2, 1]] : PLACES);

const numbers = Array.from({ length: TRIES }, (_, number) => number);
/** Each call of the API is awaited, several times the way to Redis: fewer of them, unless all is wanted. */
const awaited = ORDER !== undefined ? numbers : numbers.slice(0, 2 * USERS);

/** All sequences in one place. */
function sequences(adapter, shards, ms) {
  describe(`order, ${adapter} adapter, ${shards} shards, Redis ${ms} ms away`, { concurrency: 1, timeout: 180_000 + 1000 * TRIES }, () => {
    let redis;
    let far;
    let servers;
    let client;
    let flock;
    /** Of each user: the events that came, with their first argument, in their order. */
    const got = new Map();
    const sids = new Map();
    const users = Array.from({ length: USERS }, (_, index) => `u${index}`);
    const onEvent = (user, bytes, begin, end) => {
      const [event, first] = JSON.parse(bytes.toString('utf8', begin, end));
      if (event === 'connected') sids.set(user, first.socketId);
      else got.get(user)?.push([event, first]);
    };

    before(async () => {
      redis = await RedisServer.start();
      far = await Distance.from(redis, ms);
      // The clients are on B; A is for its API.
      const [A, B, C] = await Promise.all([
        startPeer(far, { name: 'A', adapter, env: { SOCKRING_SHARDS: '1' } }), startPeer(far, { name: 'B', adapter, env: { SOCKRING_SHARDS: String(shards) } }),
        startNode(redis, { name: 'C', adapter }),
      ]);
      servers = { A, B, C };
      await assembled(C, 3);
      // Node-redis gives up after five seconds what it has not written, which is soon on a busy machine.
      client = createClient({ url: redis.url, commandOptions: { timeout: 120_000 } });
      await client.connect();
      flock = await gather(users.map((user) => [B, user]), onEvent);
      await heard(redis, adapter, users.map((user) => ['/', `user:${user}`, 1]));
    });

    after(async () => {
      flock?.leave();
      client?.destroy();
      for (const server of Object.values(servers ?? {})) await server.stop();
      await far?.stop();
      await redis?.stop();
    });

    const forget = () => users.forEach((user) => got.set(user, []));
    forget();

    /** Users who are disconnected: they come for one test, or would get what others send to all. */
    async function gatherEnding(list) {
      list.forEach((user) => got.set(user, []));
      const ending = await gather(list.map((user) => [servers.B, user]), onEvent);
      await heard(redis, adapter, list.map((user) => ['/', `user:${user}`, 1]));
      return ending;
    }

    /** Each of them has been told, once. */
    async function assertTold(list, ending) {
      await settle(() => list.every((user) => got.get(user).length >= 1));
      ending.leave();
      assert.deepEqual(list.map((user) => numbersOf(user, 'bye').length).filter((count) => count !== 1), []);
      list.forEach((user) => got.delete(user));
    }

    /** The numbers that have come to a user with this event. */
    const numbersOf = (user, event) => got.get(user).filter((one) => one[0] === event).map((one) => one[1]);

    /** Waits until this is so, or nothing comes any more. */
    async function settle(isComplete) {
      const came = () => [...got.values()].reduce((sum, events) => sum + events.length, 0);
      for (let [seen, since] = [came(), Date.now()]; !isComplete() && Date.now() - since < SETTLE_MS; await pause(5)) {
        if (came() > seen) [seen, since] = [came(), Date.now()];
      }
    }

    /** Waits until each user has got so many for each of the awaited numbers that is its own. */
    const settled = (count) => settle(() => users.every((user) => got.get(user).length >= count * awaited.filter((number) => whose(number) === user).length));

    /** Who gets number N of a sequence. */
    const whose = (number) => users[number % USERS];

    /** Each number came to its user once and in order, and to nobody else. */
    function assertEach(event, what, list = numbers) {
      for (const user of users) {
        assert.deepEqual(numbersOf(user, event), list.filter((number) => whose(number) === user), `${what}: ${user}`);
      }
    }

    /** Sends steps back to back, and then an event to each user, behind which nothing comes any more. */
    async function send(by, steps, last) {
      const emitter = new Emitter(client);
      const end = users.map((user) => ['emit', { rooms: [`user:${user}`], args: ['end', last] }]);
      if (by === 'node') await servers.C.ask('sequence', [...steps, ...end], SEQUENCE_MS);
      else {
        [...steps, ...end].forEach((step) => emitterDoes(emitter, step));
        // Redis has all of it.
        await client.ping();
      }
      await settle(() => users.every((user) => numbersOf(user, 'end').includes(last)));
    }

    for (const by of adapter === 'classic' ? ['node', 'emitter'] : ['node']) {
      const of = { node: 'a Node server', emitter: 'redis-emitter' }[by];

      // Node's sharded adapter subscribes a room when its first member comes, and loses what is on its way until then.
      test(`${of}: who is joined gets what is sent to the room right behind it`, { skip: adapter === 'sharded' && 'Node loses it too' }, async () => {
        forget();
        await send(by, numbers.flatMap((number) => [
          ['socketsJoin', { rooms: [`user:${whose(number)}`], join: [`new-${by}-${number}`] }],
          ['emit', { rooms: [`new-${by}-${number}`], args: ['joined', number] }],
        ]), 1);
        assertEach('joined', 'a new room');
      });

      test(`${of}: who is joined to a room that has members gets what is sent to it right behind`, async () => {
        const room = `known-${by}`;
        forget();
        await send('node', [['socketsJoin', { rooms: ['user:u0'], join: [room] }]], 0);
        await heard(redis, adapter, [['/', room, 1]]);
        await send(by, numbers.flatMap((number) => [
          ['socketsJoin', { rooms: [`user:${whose(number)}`], join: [room] }],
          ['emit', { rooms: [room], args: ['joined', number] }],
          ['socketsLeave', { rooms: [`user:${whose(number)}`], leave: whose(number) === 'u0' ? ['none'] : [room] }],
        ]), 2);
        assert.deepEqual(numbersOf('u0', 'joined'), numbers);
        for (const user of users.slice(1)) assert.deepEqual(numbersOf(user, 'joined'), numbers.filter((number) => whose(number) === user), user);
      });

      test(`${of}: who is told something and disconnected has been told`, async () => {
        forget();
        const list = numbers.map((number) => `bye-${by}-${1000 + number}`);
        const ending = await gatherEnding(list);
        await send(by, numbers.flatMap((number) => [
          ['emit', { rooms: [`user:bye-${by}-${1000 + number}`], args: ['bye', number] }],
          ['disconnectSockets', { rooms: [`user:bye-${by}-${1000 + number}`], close: true }],
        ]), 3);
        await assertTold(list, ending);
      });

      test(`${of}: who is told something and taken out of the room has been told, and is told nothing after it`, async () => {
        forget();
        const room = (number) => `left-${by}-${number}`;
        const rooms = users.map((user) => numbers.filter((number) => whose(number) === user).map(room));
        await send('node', users.map((user, index) => ['socketsJoin', { rooms: [`user:${user}`], join: rooms[index] }]), 4);
        await heard(redis, adapter, numbers.map((number) => ['/', room(number), 1]));
        await send(by, numbers.flatMap((number) => [
          ['emit', { rooms: [room(number)], args: ['before', number] }],
          ['socketsLeave', { rooms: [room(number)], leave: [room(number)] }],
          ['emit', { rooms: [room(number)], args: ['after', number] }],
        ]), 5);
        assertEach('before', 'before it left');
        for (const user of users) assert.deepEqual(numbersOf(user, 'after'), [], `${user} had left`);
      });

      test(`${of}: events to a user, to several rooms, to a socket and to all come in one order`, async () => {
        forget();
        const targets = (number) => {
          const user = whose(number);
          return [[`user:${user}`], [`user:${user}`, 'nobody'], [sids.get(user)], [`user:${user}`, sids.get(user)]];
        };
        await send(by, numbers.flatMap((number) => [
          ...targets(number).map((rooms, index) => ['emit', { rooms, args: ['mixed', 10 * number + index] }]),
          ['emit', { rooms: [], args: ['mixed', 10 * number + 9] }],
        ]), 6);
        for (const user of users) {
          const wanted = numbers.flatMap((number) => [...(whose(number) === user ? [0, 1, 2, 3] : []), 9].map((index) => 10 * number + index));
          assert.deepEqual(numbersOf(user, 'mixed'), wanted, user);
        }
      });

      // Its room and theirs have channels of their own, and nothing but the connection that brings both says which came first.
      test(`${of}: who is joined to the room of another user gets events to it, to its own and to all in one order`, { skip: adapter === 'sharded' && 'Node loses them too' }, async () => {
        forget();
        // Of each user in turn the one before it is the host, and has been for as long as it is connected.
        const host = (number) => users[(number + USERS - 1) % USERS];
        await send(by, numbers.flatMap((number) => [
          ['socketsJoin', { rooms: [`user:${whose(number)}`], join: [`user:${host(number)}`] }],
          ['emit', { rooms: [`user:${host(number)}`], args: ['guest', 10 * number] }],
          ['emit', { rooms: [`user:${whose(number)}`], args: ['guest', 10 * number + 1] }],
          ['emit', { rooms: [`user:${host(number)}`], args: ['guest', 10 * number + 2] }],
          ['emit', { rooms: [], args: ['guest', 10 * number + 3] }],
          ['socketsLeave', { rooms: [`user:${whose(number)}`], leave: [`user:${host(number)}`] }],
        ]), 7);
        for (const user of users) {
          const wanted = numbers.flatMap((number) => {
            const [isGuest, isHost] = [whose(number) === user, host(number) === user];
            return [...(isGuest || isHost ? [0] : []), ...(isGuest ? [1] : []), ...(isGuest || isHost ? [2] : []), 3].map((index) => 10 * number + index);
          });
          assert.deepEqual(numbersOf(user, 'guest'), wanted, user);
        }
      });
    }

    describe('by the API of another instance', { concurrency: 1, skip: peersAreNode && 'about sockring' }, () => {
      test('events to several users and to one come in the order in which they were answered', async () => {
        forget();
        for (const number of awaited) {
          const user = whose(number);
          await api(servers.A, 'POST', '/emit', { event: 'mixed', users: [user, 'nobody'], args: [2 * number] });
          await api(servers.A, 'POST', '/emit', { event: 'mixed', user, args: [2 * number + 1] });
        }
        await settled(2);
        for (const user of users) {
          assert.deepEqual(numbersOf(user, 'mixed'), awaited.filter((number) => whose(number) === user).flatMap((number) => [2 * number, 2 * number + 1]), user);
        }
      });

      test('who is told something and disconnected when that is answered has been told', async () => {
        forget();
        const list = awaited.map((number) => `bye-api-${1000 + number}`);
        const ending = await gatherEnding(list);
        for (const [number, user] of list.entries()) {
          await api(servers.A, 'POST', '/emit', { event: 'bye', user, args: [number] });
          await api(servers.A, 'POST', '/disconnect', { user });
        }
        await assertTold(list, ending);
      });

      test('who is joined gets what is sent to the room when that is confirmed', async () => {
        forget();
        for (const number of awaited) {
          const join = () => api(servers.A, 'POST', '/rooms/join', { user: whose(number), room: `api-${number}` });
          await until(CONFIRMED_MS, 'it is confirmed', join, ({ confirmed }) => confirmed, 0);
          await api(servers.A, 'POST', '/emit', { event: 'joined', room: `api-${number}`, args: [number] });
        }
        await settled(1);
        assertEach('joined', 'a new room', awaited);
      });
    });

    test('the Node server has not complained', async () => {
      assert.deepEqual(await servers.C.complaints(), []);
    });
  });
}

// They mostly wait for a Redis that is far away: several places at once, each with a Redis and servers of its own.
describe('one sender, one order', { concurrency: AT_ONCE }, () => {
  for (const adapter of adapters) {
    for (const [shards, ms] of peersAreNode ? [[1, 0], [1, 5]] : placesOf(adapter)) sequences(adapter, shards, ms);
  }
});
