// Rooms as Node has them: a number is not the text of its digits, names and namespaces may contain what channels are made of,
// and a socket is in so many rooms at most.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Emitter } from '@socket.io/redis-emitter';
import { createClient } from 'redis';
import { closeClients } from '../lib/client.mjs';
import { adapters, connect, peersAreNode, startNode, startPeer, stopServers } from '../lib/cluster.mjs';
import { byEmitter } from '../lib/emits.mjs';
import { request } from '../lib/http.mjs';
import { RedisServer } from '../lib/redis.mjs';
import { until } from '../lib/wait.mjs';

/** The namespace of sockets that share channels with the rooms `x`, `x#r` and so on of the main one. */
const HASHED = '/#x';
const SPACES = `/,${HASHED}`;
const ROOMS_MAX = 4;

for (const adapter of adapters) {
  describe(`rooms, ${adapter} adapter`, { timeout: 60000 }, () => {
    let redis;
    let servers;
    let client;

    before(async () => {
      redis = await RedisServer.start();
      const [A, B, C] = await Promise.all([
        startPeer(redis, { name: 'A', adapter, env: { SOCKRING_NAMESPACES: SPACES, NAMESPACES: SPACES, SOCKRING_ROOMS_PER_SOCKET_MAX: String(ROOMS_MAX) } }),
        // One that hears the rooms with members alone.
        startPeer(redis, { name: 'B', adapter, env: { SOCKRING_NAMESPACES: SPACES, NAMESPACES: SPACES, SOCKRING_REDIS_ROOMS: 'users' } }),
        startNode(redis, { name: 'C', adapter, env: { NAMESPACES: SPACES } }),
      ]);
      servers = { A, B, C };
      await until(5000, 'C counts all', () => C.ask('serverCount', { nsp: HASHED }), (answer) => answer.value === 3);
      client = createClient({ url: redis.url });
      await client.connect();
    });

    after(async () => {
      closeClients();
      client?.destroy();
      if (servers) await stopServers(servers);
      await redis?.stop();
    });

    const roomsOf = async (user, nsp = '/') => {
      const { value } = await servers.C.ask('fetchSockets', { nsp, rooms: [`user:${user}`] });
      return value?.[0]?.rooms ?? [];
    };

    /** Puts a user into rooms by an order of Node, and waits until it is told that it is in the last of them. */
    async function join(user, rooms, nsp = '/') {
      await servers.C.ask('socketsJoin', { nsp, rooms: [`user:${user}`], join: rooms });
      await until(5000, `${user} is in ${rooms}`, () => roomsOf(user, nsp), (list) => rooms.every((room) => list.includes(room)));
      // The sharded adapter of a Node server tells nobody when it hears a room.
      if (adapter === 'sharded') for (const room of rooms) await until(5000, `${room} is heard`, () => redis.subscribers(`socket.io#${nsp}#${room}#`, 'SHARDNUMSUB'), (count) => count > 0);
    }

    const emitters = adapter === 'classic' ? ['node', 'emitter'] : ['node'];
    const emit = (by, spec) => (by === 'node' ? servers.C.emit(spec) : byEmitter(new Emitter(client), spec));

    for (const letter of ['A', 'B', 'C']) {
      for (const by of emitters) {
        test(`on ${letter}, by ${by}: a room that is a number is not the one of its digits`, async () => {
          const [one, two] = [`number-${letter}-${by}`, `digits-${letter}-${by}`];
          const [number, digits] = [await connect(servers[letter], one), await connect(servers[letter], two)];
          await join(one, [5, 2.5]);
          await join(two, ['5', '2.5']);
          const rooms = [[5], ['5'], [2.5], ['2.5'], [5, 'nobody'], ['5', 'nobody']];
          for (const [index, list] of rooms.entries()) emit(by, { rooms: list, args: ['to', index] });
          emit(by, { except: [5], args: ['to', 6] });
          emit(by, { except: ['5'], args: ['to', 7] });
          emit(by, { args: ['to', 'end'] });
          const got = (member) => member.events.seen.filter(([event]) => event === 'to').map(([, index]) => index);
          await until(5000, 'all has come', () => [number, digits].map((member) => got(member).at(-1)), (last) => last.every((index) => index === 'end'));
          // What is sent to one room and to several comes on channels of their own, and in one order only with the classic adapter.
          assert.deepEqual(got(number).sort(), [0, 2, 4, 7, 'end'].sort(), 'in 5 and 2.5');
          assert.deepEqual(got(digits).sort(), [1, 3, 5, 6, 'end'].sort(), 'in "5" and "2.5"');
          // One is left, and the other stays.
          await servers.C.ask('socketsLeave', { rooms: [`user:${one}`], leave: [5, 2.5] });
          await until(5000, 'it has left', () => roomsOf(one), (list) => !list.includes(5) && !list.includes(2.5));
          assert.ok((await roomsOf(two)).includes('5'));
          number.close();
          digits.close();
          await until(5000, 'they are gone', async () => [...await roomsOf(one), ...await roomsOf(two)], (list) => list.length === 0);
        });
      }

      test(`on ${letter}: all rooms of a namespace are told with their numbers`, { skip: adapter !== 'classic' && 'it does not ask' }, async () => {
        const user = `told-${letter}`;
        const member = await connect(servers[letter], user);
        await join(user, [7, '8']);
        const { value } = await servers.C.ask('allRooms', { nsp: '/' });
        assert.deepEqual([7, '7', 8, '8'].map((room) => value.includes(room)), [true, false, false, true]);
        member.close();
      });
    }

    // What these rooms and that namespace have in common are the names of channels; the packet says whose it is.
    for (const letter of ['A', 'B', 'C']) {
      for (const by of emitters) {
        test(`on ${letter}, by ${by}: a namespace with # in its name is told from rooms that are called like it`, async () => {
          const user = `hashed-${letter}-${by}`;
          const main = await connect(servers[letter], user);
          const other = await connect(servers[letter], user, { namespace: HASHED, manager: main.socket.io });
          await join(user, ['x', 'x#r']);
          await join(user, ['r', 'x']);
          await join(user, ['r', 'x'], HASHED);
          const events = [
            { rooms: ['x#r'], args: ['e', 'main x#r'] }, { rooms: ['r'], args: ['e', 'main r'] }, { rooms: ['x'], args: ['e', 'main x'] },
            { nsp: HASHED, rooms: ['r'], args: ['e', 'other r'] }, { nsp: HASHED, rooms: ['x'], args: ['e', 'other x'] },
            { nsp: HASHED, args: ['e', 'other all'] }, { nsp: HASHED, rooms: [`user:${user}`], args: ['e', 'other user'] }, { args: ['e', 'main all'] },
          ];
          for (const spec of events) emit(by, spec);
          const got = (member) => member.events.seen.filter(([event]) => event === 'e').map(([, what]) => what).sort();
          await until(5000, 'all has come', () => [got(main), got(other)].map((list) => list.length), ([one, two]) => one >= 4 && two >= 4);
          assert.deepEqual(got(main), ['main all', 'main r', 'main x', 'main x#r']);
          assert.deepEqual(got(other), ['other all', 'other r', 'other user', 'other x']);
          main.close();
          other.close();
        });
      }
    }

    test('an order to join more rooms than a socket may be in is counted and logged', { skip: peersAreNode && 'about sockring' }, async () => {
      const member = await connect(servers.A, 'eager');
      await join('eager', ['one', 'two', 'three']);
      const hits = async () => Number(/^sockring_limit_hits_total\{limit="rooms_per_socket_max"\} (\d+)$/m.exec((await request(servers.A, '/metrics')).text)?.[1]);
      const before = await hits();
      await servers.C.ask('socketsJoin', { rooms: ['user:eager'], join: ['four'] });
      await until(5000, 'it is counted', hits, (count) => count === before + 1);
      await until(5000, 'the log says so', () => servers.A.said(), (said) => /rooms_per_socket_max/.test(said));
      assert.ok(!(await roomsOf('eager')).includes('four'));
      member.close();
    });

    test('the Node server has not complained', async () => {
      assert.deepEqual(await servers.C.complaints(), []);
    });
  });
}
