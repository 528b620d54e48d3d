// What a Node server asks of the whole cluster counts the sockets of every server, and is done to them.

import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { createClient } from 'redis';
import { api } from '../lib/api.mjs';
import { Client } from '../lib/client.mjs';
import { adapters, connect, heard } from '../lib/cluster.mjs';
import { crowded } from '../lib/crowd.mjs';
import { tokenFor } from '../lib/jwt.mjs';
import { RedisServer } from '../lib/redis.mjs';
import { pause, until, within } from '../lib/wait.mjs';

const HANDSHAKE = ['address', 'auth', 'headers', 'issued', 'query', 'secure', 'time', 'url', 'xdomain'];
const sorted = (list) => [...list].sort();

for (const adapter of adapters) {
  describe(`requests of Node, ${adapter} adapter`, { timeout: 60000 }, () => {
    let redis;
    let servers;
    let crowd;

    crowded(() => RedisServer.start(), adapter, (all) => ({ redis, servers, crowd } = all));

    const ids = (names) => sorted(names.map((name) => crowd.id(name)));
    const value = (answer, what = '') => {
      assert.equal(answer.error, undefined, `an answer, not ${answer.error} ${what}`);
      return answer.value;
    };
    const fetch = async (spec, node = servers.C) => value(await node.ask('fetchSockets', spec));
    /** Waits until a Node server sees exactly these in a room, so that every server has done what it was told. */
    const inRoom = (room, names, nsp = '/') => until(5000, `${names} are in ${room}`, () => fetch({ nsp, rooms: [room] }), (sockets) => (
      JSON.stringify(sorted(sockets.map((socket) => socket.id))) === JSON.stringify(ids(names))
    ));
    /** A client of its own, for what ends it. */
    const strangers = [];
    const stranger = async (letter, user, options) => {
      const client = await connect(servers[letter], user, options);
      strangers.push(client);
      return client;
    };
    afterEach(() => strangers.splice(0).forEach((client) => client.close()));

    test('fetchSockets: all of them, with the rooms and the handshake of each', async () => {
      for (const letter of ['C', 'D']) {
        const sockets = await fetch({}, servers[letter]);
        assert.deepEqual(sorted(sockets.map((socket) => socket.id)), ids(crowd.main), letter);
        for (const name of crowd.main) {
          const socket = sockets.find((one) => one.id === crowd.id(name));
          const user = name.endsWith('multi') ? 'multi' : `${name.slice(2)}-${name[0]}`;
          for (const room of [socket.id, `user:${user}`]) assert.ok(socket.rooms.includes(room), `${name} is in ${room}: ${socket.rooms}`);
          assert.deepEqual(HANDSHAKE.filter((key) => !socket.handshake.includes(key)), [], `${name}: the handshake has every key`);
          assert.equal(typeof socket.data, 'object', `${name}: data`);
        }
      }
    });

    test('fetchSockets: of a room, of rooms, without another, of a user, of a namespace', async () => {
      const list = async (spec) => sorted((await fetch(spec)).map((socket) => socket.id));
      assert.deepEqual(await list({ rooms: ['r1'] }), ids(['A.web', 'B.poll', 'C.web', 'D.poll']));
      assert.deepEqual(await list({ rooms: ['r1', 'r2'] }), ids(['A.web', 'B.poll', 'C.web', 'D.poll', 'A.poll', 'D.multi']));
      assert.deepEqual(await list({ rooms: ['r1'], except: ['r2', 'user:web-A'] }), ids(['B.poll', 'D.poll']));
      assert.deepEqual(await list({ except: ['user:multi'] }), ids(crowd.main.filter((name) => !name.endsWith('multi'))));
      assert.deepEqual(await list({ rooms: ['user:multi'] }), ids(crowd.of('multi')));
      assert.deepEqual(await list({ rooms: [crowd.id('B.poll')] }), ids(['B.poll']));
      assert.deepEqual(await list({ rooms: ['nobody'] }), []);
      assert.deepEqual(await list({ nsp: '/admin' }), ids(crowd.admin));
      assert.deepEqual(await list({ nsp: '/admin', rooms: ['user:web-B'] }), ids(['B.admin']));
      const [socket] = await fetch({ rooms: ['user:web-A'] });
      assert.ok(socket.rooms.includes('r1'), `a joined room is among ${socket.rooms}`);
    });

    test('many fetchSockets at once', async () => {
      const answers = await Promise.all(Array.from({ length: 50 }, (_, number) => fetch({ rooms: ['user:multi'] }, number % 2 ? servers.C : servers.D)));
      for (const sockets of answers) assert.equal(sockets.length, 4);
    });

    test('thousands of fetchSockets at once', async () => {
      const { C } = servers;
      assert.deepEqual(await C.ask('fetchMany', { count: 3000, rooms: ['user:multi'] }, 15000), { failed: 0, found: [4] });
      assert.deepEqual(await C.ask('fetchMany', { count: 1500 }, 15000), { failed: 0, found: [crowd.main.length] });
    });

    test('emitWithAck, more of them within their timeout than could wait for it', async () => {
      const clients = [await stranger('A', 'asked'), await stranger('B', 'asked')];
      for (const { socket } of clients) socket.on('question', (number, answer) => answer(number));
      const spec = { rate: 500, seconds: 3, rooms: ['user:asked', 'user:nobody', 'user:asked'], timeout: 10000, args: ['question', 1] };
      const { asked, failed, acknowledged } = await servers.C.ask('ackRate', spec, 20000);
      assert.deepEqual({ asked, failed, acknowledged: sorted(acknowledged) }, { asked: 1500, failed: 0, acknowledged: [0, 2] });
    });

    test('allRooms', { skip: adapter !== 'classic' && 'its Node adapter has none' }, async () => {
      const rooms = value(await servers.C.ask('allRooms'));
      for (const room of ['r1', 'r2', 'user:multi', 'user:web-A', 'user:poll-B', 'user:web-D', ...ids(crowd.main)]) assert.ok(rooms.includes(room), room);
      assert.ok(!rooms.includes('nobody'));
      const admin = value(await servers.C.ask('allRooms', { nsp: '/admin' }));
      assert.ok(admin.includes('user:web-B') && !admin.includes('user:poll-B'));
    });

    test('socketsJoin and socketsLeave: of a room, with except, of a socket, of all', async () => {
      const { C, D } = servers;
      await C.ask('socketsJoin', { rooms: ['r1'], except: ['user:web-C'], join: ['j1', 'j2'] });
      await D.ask('socketsJoin', { rooms: [crowd.id('B.multi')], join: ['j1'] });
      await inRoom('j1', ['A.web', 'B.poll', 'D.poll', 'B.multi']);
      await inRoom('j2', ['A.web', 'B.poll', 'D.poll']);
      await heard(redis, adapter, [['/', 'j1', 3], ['/', 'j2', 3]]);
      await C.emit({ rooms: ['j1'], args: ['to j1', 1] });
      await D.emit({ rooms: ['j2'], args: ['to j2', 1] });
      await servers.A.emit({ rooms: ['j2'], args: ['to j2 from A', 1] });
      const j2 = ['A.web', 'B.poll', 'D.poll'];
      await crowd.assertGot([
        { event: 'to j1', to: [...j2, 'B.multi'], got: [1] },
        { event: 'to j2', to: j2, got: [1] },
        { event: 'to j2 from A', to: j2, got: [1] },
      ]);
      await D.ask('socketsLeave', { rooms: ['j2'], except: ['user:web-A'], leave: ['j1'] });
      await inRoom('j1', ['A.web', 'B.multi']);
      await C.ask('socketsJoin', { join: ['everyone'] });
      await inRoom('everyone', crowd.main);
      await C.ask('socketsLeave', { leave: ['everyone', 'j1', 'j2'] });
      for (const room of ['everyone', 'j1', 'j2']) await inRoom(room, []);
      await C.emit({ rooms: ['j1', 'everyone'], args: ['to nobody', 1] });
      await crowd.assertGot([{ event: 'to nobody', to: [], got: [1] }]);
    });

    test('a socket is joined, spoken to and ended by the handle that fetchSockets gives', async () => {
      const client = await stranger('A', 'handled');
      const id = client.socket.id;
      await servers.C.ask('remote', { id, action: 'emit', args: ['to the handle', Buffer.from([1])] });
      assert.deepEqual(await client.event('to the handle'), Buffer.from([1]));
      await servers.C.ask('remote', { id, action: 'join', args: ['by handle'] });
      await until(5000, 'it is in the room', () => fetch({ rooms: ['by handle'] }), (sockets) => sockets.length === 1);
      await servers.D.ask('remote', { id, action: 'leave', args: ['by handle'] });
      await until(5000, 'it has left the room', () => fetch({ rooms: ['by handle'] }), (sockets) => sockets.length === 0);
      await servers.D.ask('remote', { id, action: 'disconnect', args: [false] });
      assert.equal(await client.disconnect(), 'io server disconnect');
    });

    test('disconnectSockets(false): for good; others stay', async () => {
      const clients = await Promise.all(['A', 'B', 'C', 'D'].map((letter) => stranger(letter, 'ended')));
      const other = await stranger('A', 'not-ended');
      await servers.C.ask('disconnectSockets', { rooms: ['user:ended'], close: false });
      for (const client of clients) assert.equal(await client.disconnect(), 'io server disconnect');
      assert.equal((await until(5000, 'they are gone', () => fetch({ rooms: ['user:ended'] }), (sockets) => sockets.length === 0)).length, 0);
      assert.ok(other.socket.connected);
      other.close();
    });

    test('disconnectSockets(true): all namespaces of the client, and its connection; it stays away', async () => {
      const clients = await Promise.all(['A', 'B', 'C'].map((letter) => stranger(letter, 'banned', letter === 'B' ? { transports: ['polling'] } : {})));
      const engines = clients.map((client) => client.socket.io.engine);
      const admins = await Promise.all(clients.map((client) => Client.connected('4.8.4', null, { manager: client.socket.io, namespace: '/admin', token: tokenFor('banned') })));
      strangers.push(...admins);
      await servers.D.ask('disconnectSockets', { rooms: ['user:banned'], close: true });
      for (const [index, client] of [...clients, ...admins].entries()) assert.equal(await client.disconnect(), 'io server disconnect', String(index));
      await until(3000, 'the connections are closed', () => engines.map((engine) => engine.readyState), (states) => states.every((state) => state === 'closed'));
      await pause(300);
      assert.deepEqual(clients.map((client) => client.connects.seen.length), [1, 1, 1], 'nobody has come back');
      assert.deepEqual(await fetch({ rooms: ['user:banned'] }), []);
      assert.deepEqual(await fetch({ nsp: '/admin', rooms: ['user:banned'] }), []);
    });

    test('serverSideEmit reaches the code of the other Node servers, and harms nobody', async () => {
      const { C, D } = servers;
      await C.ask('serverSideEmit', { args: ['tell', { a: 1 }, 'two'] });
      await until(3000, 'D was told', () => D.ask('told'), (told) => told.length === 1 && told[0][1] === 'two');
      assert.deepEqual(await C.ask('told'), []);
      for (const letter of ['A', 'B']) servers[letter].assertAlive();
    });

    test('serverSideEmit with acknowledgement: every server answers', async () => {
      const { C } = servers;
      const begun = performance.now();
      const answers = value(await C.ask('serverSideEmitWithAck', { args: ['ask', 'how are you?'] }));
      assert.ok(performance.now() - begun < 2000, 'before the timeout of Node');
      assert.equal(answers.length, 3);
      const ofNode = answers.filter((answer) => answer?.from);
      assert.ok(ofNode.some((answer) => answer.from === 'D' && answer.question === 'how are you?'));
      assert.equal(ofNode.length, servers.A.kind === 'node' ? 3 : 1);
    });

    /** Answers the event of every client in `names` with what `answer(name, ...args)` gives. */
    const answering = (event, names, answer) => {
      for (const name of names) crowd.clients[name].socket.once(event, (...args) => args.pop()(answer(name, ...args)));
    };

    test('emitWithAck: each client answers once, binary too', async () => {
      const names = crowd.main;
      answering('question', names, (name, number, bytes) => ({ name, number, bytes }));
      const answers = value(await servers.C.ask('emitWithAck', { flags: { timeout: 3000 }, args: ['question', 7, Buffer.from([1, 2])] }));
      assert.deepEqual(sorted(answers.map((answer) => answer.name)), names);
      for (const answer of answers) assert.deepEqual({ number: answer.number, bytes: Buffer.from(answer.bytes) }, { number: 7, bytes: Buffer.from([1, 2]) }, answer.name);
    });

    test('emitWithAck: to a room, to a user, in a namespace, to nobody; any value is an answer', async () => {
      const { C, D } = servers;
      const members = ['A.web', 'B.poll', 'C.web', 'D.poll'];
      answering('of-room', members, (name) => name);
      assert.deepEqual(sorted(value(await D.ask('emitWithAck', { rooms: ['r1'], flags: { timeout: 3000 }, args: ['of-room'] }))), members);
      const values = [Buffer.from([255]), null, [1, [2]], 'é🎉', false];
      for (const one of values) {
        answering('of-user', ['B.web'], () => one);
        assert.deepEqual(value(await C.ask('emitWithAck', { rooms: ['user:web-B'], flags: { timeout: 3000 }, args: ['of-user', 1] }), JSON.stringify(one)), [one], `an answer of ${JSON.stringify(one)}`);
      }
      answering('of-admin', crowd.admin, (name) => name);
      assert.deepEqual(sorted(value(await C.ask('emitWithAck', { nsp: '/admin', flags: { timeout: 3000 }, args: ['of-admin'] }))), crowd.admin);
      assert.deepEqual(value(await C.ask('emitWithAck', { rooms: ['nobody'], flags: { timeout: 2000 }, args: ['to nobody'] })), []);
    });

    test('emitWithAck: who does not answer makes an error, with what the others said', async () => {
      answering('unanswered', ['A.web', 'C.web', 'D.poll'], (name) => name);
      const answer = await servers.C.ask('emitWithAck', { rooms: ['r1'], flags: { timeout: 700 }, args: ['unanswered'] });
      assert.match(answer.error ?? '', /timed out/);
      assert.deepEqual(sorted(answer.responses), ['A.web', 'C.web', 'D.poll']);
    });

    test('emitWithAck from the other server under test, when it is Node', { skip: process.env.PEERS !== 'node' && 'sockring has no such call' }, async () => {
      answering('of-room', ['A.web', 'B.poll', 'C.web', 'D.poll'], (name) => name);
      assert.equal(value(await servers.A.ask('emitWithAck', { rooms: ['r1'], flags: { timeout: 3000 }, args: ['of-room'] })).length, 4);
    });

    test('POST /emit with ack: the clients of all servers are asked, and counted', { skip: process.env.PEERS === 'node' && 'Node has no such call' }, async () => {
      const members = ['A.web', 'B.poll', 'C.web', 'D.poll'];
      const ask = async (body) => {
        const { published, missing, acked, timedOut, responses } = await api(servers.A, 'POST', '/emit', { event: 'asked', args: [1], ...body });
        return [published, missing, acked, timedOut, responses && sorted(responses)];
      };
      const wish = (timeoutMs) => ({ ack: { timeoutMs, responses: true } });
      answering('asked', members, (name) => name);
      assert.deepEqual(await ask({ room: 'r1', ...wish(10000) }), [true, 0, 4, 0, sorted(members)]);
      answering('asked', ['B.web'], (name) => ({ name }));
      const [, , acked, , responses] = await ask({ user: 'web-B', ...wish(10000) });
      assert.deepEqual([acked, responses], [1, [{ name: 'B.web' }]]);
      answering('asked', ['A.web', 'C.web'], (name) => name);
      assert.deepEqual(await ask({ room: 'r1', ...wish(700) }), [true, 0, 2, 2, ['A.web', 'C.web']]);
      answering('asked', crowd.admin, (name) => name);
      assert.deepEqual(await ask({ broadcast: true, namespace: '/admin', ...wish(10000) }), [true, 0, crowd.admin.length, 0, sorted(crowd.admin)]);
      assert.deepEqual(await ask({ room: 'nobody', ...wish(10000) }), [true, 0, 0, 0, []]);
    });

    test('what servers before version 8 ask: sids of rooms, and a single socket by its sid', { skip: adapter !== 'classic' }, async () => {
      const spy = createClient({ url: redis.url });
      spy.on('error', () => {});
      await spy.connect();
      const answers = [];
      await spy.pSubscribe('socket.io-response#/#*', (text) => answers.push(JSON.parse(text)));
      const ask = async (body, count) => {
        answers.length = 0;
        await redis.command('PUBLISH', 'socket.io-request#/#', JSON.stringify({ uid: 'older1', requestId: 'rq', ...body }));
        await until(2000, `${count} answers`, () => answers.length, (length) => length >= count);
        await pause(50);
        assert.equal(answers.length, count);
        for (const answer of answers) assert.equal(answer.requestId, 'rq');
        return answers;
      };
      const all = await ask({ type: 0, rooms: [] }, 4);
      assert.deepEqual(sorted(all.flatMap((answer) => answer.sockets)), ids(crowd.main));
      assert.deepEqual(sorted((await ask({ type: 0, rooms: ['r1', 'r2'] }, 4)).flatMap((answer) => answer.sockets)), ids(['A.web', 'B.poll', 'C.web', 'D.poll', 'A.poll', 'D.multi']));
      const client = await stranger('A', 'by-sid');
      const sid = client.socket.id;
      await ask({ type: 2, sid, room: 'legacy' }, 1);
      assert.deepEqual((await fetch({ rooms: ['legacy'] })).map((socket) => socket.id), [sid]);
      await ask({ type: 3, sid, room: 'legacy' }, 1);
      assert.deepEqual(await fetch({ rooms: ['legacy'] }), []);
      await ask({ type: 4, sid, close: false }, 1);
      assert.equal(await client.disconnect(), 'io server disconnect');
      spy.destroy();
    });

    test('a client that leaves is gone from every answer', async () => {
      const client = await stranger('B', 'leaver');
      assert.equal((await fetch({ rooms: ['user:leaver'] })).length, 1);
      await within(5000, 'it closes', client.closed());
      await until(5000, 'it is gone', () => fetch({ rooms: ['user:leaver'] }), (sockets) => sockets.length === 0);
    });

    test('no Node server has complained', async () => {
      for (const server of Object.values(servers)) assert.deepEqual(await server.complaints(), [], server.name);
    });
  });
}
