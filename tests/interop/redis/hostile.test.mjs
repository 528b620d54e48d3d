// What anybody with access to Redis can publish: malformed, hostile, and just too much. Nothing of it harms a server or a client (A32).

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { createClient } from 'redis';
import { assembled, publishing, connect, peersAreNode, startNode, startPeer } from '../lib/cluster.mjs';
import { closeClients } from '../lib/client.mjs';
import { request } from '../lib/http.mjs';
import { pack, unpack } from '../lib/msgpack.mjs';
import { RedisServer } from '../lib/redis.mjs';
import { until } from '../lib/wait.mjs';

const USER = 'user:target';
const packet = (more = {}) => ({ type: 2, data: ['hostile', 1], nsp: '/', ...more });
const options = (more = {}) => ({ rooms: [USER], except: [], flags: {}, ...more });
const times = (text, count) => Buffer.from(text.repeat(count));
const DEEP = 100_000;
const TO_NOBODY = 8 * 1024 * 1024;

/** Bytes that are no message of any kind. */
function rubbish() {
  return [
    ['nothing', Buffer.alloc(0)],
    ['a byte that msgpack never uses', Buffer.from([0xc1])],
    ['text', Buffer.from('hello')],
    ['half a JSON', Buffer.from('{"uid":"x","type":')],
    ['a JSON that is no object', Buffer.from('{}')],
    ['JSON with a wrong type', Buffer.from('{"uid":"x","type":"5","requestId":[],"opts":7}')],
    ['an unknown type', Buffer.from('{"uid":"x","type":99,"requestId":"r"}')],
    ['a number', pack(7)],
    ['a map', pack({ a: 1 })],
    ['an array of nothing', pack([])],
    ['an array that is cut off', pack(['x', packet(), options()]).subarray(0, 20)],
    ['a byte too much', Buffer.concat([pack(['x', packet(), options()]), Buffer.from([0])])],
    ['an array of four milliards', Buffer.from([0xdd, 0xff, 0xff, 0xff, 0xff])],
    ['a map of four milliards', Buffer.from([0xdf, 0xff, 0xff, 0xff, 0xff, 0xa1, 0x61])],
    ['a string of four gigabytes', Buffer.from([0xdb, 0xff, 0xff, 0xff, 0xff, 0x61])],
    ['deep arrays', Buffer.alloc(DEEP, 0x91)],
    ['deep maps', times('\x81\xa1a', DEEP)],
    ['deep JSON', Buffer.concat([times('{"a":', DEEP), Buffer.from('1'), times('}', DEEP)])],
    ['deep JSON arrays', Buffer.concat([Buffer.from('{"type":6,"data":'), times('[', DEEP), times(']', DEEP), Buffer.from('}')])],
    ['random bytes', Buffer.from(Array.from({ length: 3000 }, (_, index) => (index * 7919 + (index >> 3) * 31) & 255))],
  ];
}

/** Broadcasts of the classic adapter whose parts are wrong. */
function broadcasts() {
  return [
    ['opts null', ['x', packet(), null]],
    ['no opts', ['x', packet()]],
    ['opts a list', ['x', packet(), []]],
    ['packet null', ['x', null, options()]],
    ['packet a string', ['x', 'packet', options()]],
    ['packet without data', ['x', { type: 2, nsp: '/' }, options()]],
    ['data empty', ['x', packet({ data: [] }), options()]],
    ['data a map', ['x', packet({ data: { 0: 'hostile' } }), options()]],
    ['event a number', ['x', packet({ data: [7, 1] }), options()]],
    ['event null', ['x', packet({ data: [null] }), options()]],
    ['event a map', ['x', packet({ data: [{ a: 1 }] }), options()]],
    ['type 0', ['x', packet({ type: 0 }), options()]],
    ['type 1', ['x', packet({ type: 1 }), options()]],
    ['type 4', ['x', packet({ type: 4, data: { message: 'go away' } }), options()]],
    ['type 5', ['x', packet({ type: 5, data: ['hostile', Buffer.from([1])] }), options()]],
    ['type a string', ['x', packet({ type: '2' }), options()]],
    ['another namespace', ['x', packet({ nsp: '/admin' }), options()]],
    ['namespace a number', ['x', packet({ nsp: 7 }), options()]],
    ['rooms a string', ['x', packet(), options({ rooms: 'nobody' })]],
    ['rooms of anything', ['x', packet(), options({ rooms: [null, {}, [], 1.5, Buffer.from([1]), 'nobody'] })]],
    ['except of anything', ['x', packet(), options({ rooms: ['nobody'], except: [null, {}, 'x'] })]],
    ['flags of anything', ['x', packet(), options({ rooms: ['nobody'], flags: { volatile: 'yes', compress: [], timeout: -1, expectSingleResponse: {} } })]],
    ['a hundred thousand rooms', ['x', packet(), options({ rooms: Array.from({ length: 100_000 }, (_, index) => `nobody-${index}`) })]],
    ['a placeholder for an attachment that is none', ['x', packet({ data: ['hostile', { _placeholder: true, num: 9 }] }), options({ rooms: ['nobody'] })]],
    ['eight megabytes for nobody', ['x', packet({ data: ['hostile', 'x'.repeat(TO_NOBODY)] }), options({ rooms: ['nobody'] })]],
    ['an id that is none', ['x', packet({ id: 'seven' }), options({ rooms: ['nobody'] })]],
  ].map(([name, message]) => [name, pack(message)]).concat([
    ['values nested deeper than any', nested(3000)],
    ['text that is not UTF-8', Buffer.from(pack(['x', packet({ data: ['hostile', 'zz'] }), options()]).toString('latin1').replace('zz', '\xc3\x28'), 'latin1')],
  ]);
}

/** A broadcast with so many arrays in each other. They are written as bytes, since packing them would take a deep stack. */
function nested(levels) {
  const [before, after] = pack(['x', packet({ data: ['hostile', 'HERE'] }), options()]).toString('latin1').split('\xa4HERE');
  return Buffer.concat([Buffer.from(before, 'latin1'), Buffer.alloc(levels, 0x91), Buffer.from([1]), Buffer.from(after, 'latin1')]);
}

/** Requests whose parts are wrong, in both encodings. */
function requests() {
  const list = [
    { type: 0, requestId: 'r' }, { type: 0, requestId: 'r', rooms: 'x' }, { type: 0, requestId: 7, rooms: [] },
    { type: 1 }, { type: 1, requestId: null },
    { type: 2 }, { type: 2, opts: null, rooms: ['h'] }, { type: 2, opts: {}, rooms: null }, { type: 2, opts: { rooms: [USER] }, rooms: 'h' }, { type: 2, sid: 7, room: 7, requestId: 'r' },
    { type: 2, opts: { rooms: [USER] }, rooms: Array.from({ length: 5000 }, (_, index) => `flood-${index}`) },
    { type: 2, opts: { rooms: [USER] }, rooms: ['user:victim', 'x'.repeat(100_000)] },
    { type: 3 }, { type: 3, opts: { rooms: [USER] }, rooms: { a: 1 } }, { type: 3, opts: { rooms: [USER] }, rooms: [USER] },
    { type: 4 }, { type: 4, opts: null, close: true }, { type: 4, sid: {}, close: 'x' },
    { type: 5 }, { type: 5, requestId: 'r' }, { type: 5, requestId: 'r', opts: null }, { type: 5, requestId: 'r', opts: { rooms: 7 } }, { type: 5, requestId: 'x'.repeat(100_000), opts: { rooms: [], except: [] } },
    { type: 6 }, { type: 6, data: null }, { type: 6, data: [] }, { type: 6, requestId: 'r', data: 'x' },
    { type: 7 }, { type: 7, requestId: 'r', packet: null, opts: null }, { type: 7, requestId: 'r', packet: packet({ data: ['q'] }), opts: { rooms: ['nobody'], except: [], flags: {} } },
    { type: 7, requestId: 'r', packet: packet({ data: ['q'] }), opts: { rooms: [USER], except: [], flags: { timeout: 1e18 } } },
    { type: 7, requestId: 'r', packet: packet({ data: ['q'] }), opts: { rooms: [USER], except: [], flags: { timeout: -5 } } },
    { type: 8, requestId: 'r', clientCount: 1e12 }, { type: 9, requestId: 'r', packet: 1 },
  ];
  return list.flatMap((one, index) => [[`request ${index}, JSON`, Buffer.from(JSON.stringify({ uid: 'x', ...one }))], [`request ${index}, msgpack`, pack({ uid: 'x', ...one })]]);
}

/** Messages of the sharded adapter whose parts are wrong, in both encodings. */
function clusterMessages() {
  const opts = { rooms: [USER], except: [], flags: {} };
  const list = [
    {}, { type: 3 }, { type: 3, data: null }, { type: 3, data: {} }, { type: 3, data: { packet: null, opts } }, { type: 3, data: { packet: { type: 2, data: ['hostile'] }, opts: null } },
    { type: 3, data: { packet: { type: 5, data: ['hostile', 1] }, opts } }, { type: 3, data: { packet: { type: 2, data: [] }, opts } }, { type: 3, data: { packet: { type: 2, data: [1] }, opts } },
    { type: 3, data: { packet: { type: 2, data: ['q'] }, requestId: 'r', opts: { ...opts, flags: { timeout: 1e18 } } } },
    { type: 4 }, { type: 4, data: { opts: null, rooms: ['h'] } }, { type: 4, data: { opts, rooms: 7 } }, { type: 4, data: { opts, rooms: Array.from({ length: 5000 }, (_, index) => `flood-${index}`) } },
    { type: 5, data: {} }, { type: 5, data: { opts, rooms: [USER] } }, { type: 6 }, { type: 6, data: { opts: null, close: 1 } },
    { type: 7 }, { type: 7, data: { requestId: 'r' } }, { type: 7, data: { requestId: {}, opts } }, { type: 8, data: { requestId: 'r', sockets: 7 } }, { type: 8 },
    { type: 9 }, { type: 9, data: { packet: 'x', requestId: 'r' } }, { type: 10 }, { type: 11, data: { requestId: 'r', clientCount: -1 } }, { type: 12 }, { type: 13 }, { type: 1 }, { type: 2 }, { type: 'x' }, { type: 1e300 },
  ];
  return list.flatMap((one, index) => [
    [`message ${index}, JSON`, Buffer.from(JSON.stringify({ ...one, uid: '0123456789abcdef', nsp: '/' }))], [`message ${index}, msgpack`, pack({ ...one, uid: '0123456789abcdef', nsp: '/' })],
  ]);
}

for (const adapter of publishing) {
  const sharded = adapter === 'sharded';
  const verb = sharded ? 'SPUBLISH' : 'PUBLISH';

  describe(`hostile messages, ${adapter} adapter`, { timeout: 60000, skip: peersAreNode && 'a Node server does not survive them' }, () => {
    let redis;
    let A;
    let B;
    let target;
    let joined;
    let number = 0;

    before(async () => {
      redis = await RedisServer.start();
      [A, B] = await Promise.all([startPeer(redis, { name: 'A', adapter }), startPeer(redis, { name: 'B', adapter })]);
      target = await connect(A, 'target');
      joined = await connect(B, 'target', { transports: ['polling'] });
    });

    after(async () => {
      closeClients();
      await A?.stop();
      await B?.stop();
      await redis?.stop();
    });

    const good = (event) => (sharded
      ? Buffer.from(JSON.stringify({ type: 3, data: { packet: { type: 2, data: [event] }, opts: options() }, uid: 'fedcba9876543210', nsp: '/' }))
      : pack(['emitter', packet({ data: [event] }), options()]));

    /** Both are alive, and a good message behind the bad ones reaches their clients, who have got nothing else. */
    async function assertUnharmed(what) {
      number += 1;
      const event = `good ${number}`;
      await redis.command(verb, `socket.io#/#${USER}#`, good(event));
      for (const client of [target, joined]) {
        await until(5000, `${what}: a good message behind it comes`, () => client.events.seen.map((one) => one[0]), (names) => names.includes(event), 5);
        assert.deepEqual(client.events.seen.map((one) => one[0]).filter((name) => !['connected', event].includes(name)), [], `${what}: nothing else`);
        assert.equal(client.disconnects.seen.length, 0, `${what}: still connected`);
        client.events.seen.length = 0;
      }
      A.assertAlive();
      B.assertAlive();
    }

    const channels = sharded
      ? ['socket.io#/#', `socket.io#/#${USER}#`]
      : ['socket.io#/#', `socket.io#/#${USER}#`, 'socket.io-request#/#', 'socket.io-response#/#'];

    async function counted() {
      const text = (await request(A, '/metrics')).text;
      return [...text.matchAll(/^sockring_\w*(?:malformed|undecodable|invalid|bad)\w*(?:\{[^}]*\})? (\d+)/gm)].reduce((sum, found) => sum + Number(found[1]), 0);
    }

    test('rubbish on every channel is dropped, and counted', async () => {
      const before = await counted();
      for (const channel of channels) {
        for (const [, body] of rubbish()) await redis.command(verb, channel, body);
        await assertUnharmed(`rubbish on ${channel}`);
      }
      assert.ok(await counted() > before, `/metrics counts what could not be read: ${before} before, ${await counted()} after`);
    });

    test('broadcasts with wrong parts', { skip: sharded }, async () => {
      for (const channel of ['socket.io#/#', `socket.io#/#${USER}#`]) {
        for (const [, body] of broadcasts()) await redis.command('PUBLISH', channel, body);
        // What Node would send on is no harm either, as long as a client can read it.
        await drain(['hostile']);
        await assertUnharmed(`wrong broadcasts on ${channel}`);
      }
    });

    test('requests with wrong parts', { skip: sharded }, async () => {
      const spy = createClient({ url: redis.url });
      await spy.connect();
      const answers = [];
      await spy.pSubscribe('socket.io-response#*', (body) => answers.push(body), true);
      for (const channel of ['socket.io-request#/#', 'socket.io-response#/#']) {
        for (const [, body] of requests()) await redis.command('PUBLISH', channel, body);
        await drain(['q']);
        await assertUnharmed(`wrong requests on ${channel}`);
      }
      spy.destroy();
      for (const body of answers.filter((one) => !requests().some(([, sent]) => sent.equals(one)))) {
        assert.doesNotThrow(() => (body[0] === 0x7b ? JSON.parse(body) : unpack(body)), 'every answer can be read');
      }
    });

    test('messages with wrong parts', { skip: !sharded }, async () => {
      for (const channel of channels) {
        for (const [, body] of clusterMessages()) await redis.command('SPUBLISH', channel, body);
        await drain(['q', 'hostile']);
        await assertUnharmed(`wrong messages on ${channel}`);
      }
    });

    /** Forgets events with these names, and those whose name is a number, which Node sends on as well: a client can read them. */
    async function drain(names) {
      await redis.command(verb, `socket.io#/#${USER}#`, good('flush'));
      await until(5000, 'what was sent before is there', () => [target, joined].map((client) => client.events.seen.map((one) => one[0])), (list) => list.every((one) => one.includes('flush')));
      for (const client of [target, joined]) client.events.seen = client.events.seen.filter((one) => typeof one[0] === 'string' && ![...names, 'flush'].includes(one[0]));
    }

    test('a flood of messages for nobody', async () => {
      const body = sharded ? Buffer.from(JSON.stringify({ type: 3, data: { packet: { type: 2, data: ['hostile', 'x'.repeat(1000)] }, opts: options({ rooms: ['nobody', 'else'] }) }, uid: 'f', nsp: '/' }))
        : pack(['x', packet({ data: ['hostile', 'x'.repeat(1000)] }), options({ rooms: ['nobody', 'else'] })]);
      await Promise.all(Array.from({ length: 20_000 }, () => redis.command(verb, 'socket.io#/#', body)));
      await assertUnharmed('a flood');
    });

    test('a peer that answers every question with rubbish makes answers partial, not late', async () => {
      const spy = createClient({ url: redis.url });
      await spy.connect();
      const liar = (body) => {
        const asked = body[0] === 0x7b ? JSON.parse(body) : {};
        const requestId = asked.requestId ?? asked.data?.requestId;
        if (!requestId) return;
        for (const answer of [{ requestId, sockets: 7 }, { requestId, sockets: [null, 7, { id: 7 }, { id: 'x', rooms: 'y' }] }, { requestId, rooms: {} }, { requestId }]) {
          const message = sharded ? { type: 8, data: answer, uid: 'aaaaaaaaaaaaaaaa', nsp: '/' } : answer;
          redis.command(verb, sharded ? `socket.io#/#${asked.uid}#` : 'socket.io-response#/#', Buffer.from(JSON.stringify(message))).catch(() => {});
        }
      };
      if (sharded) await spy.sSubscribe('socket.io#/#', liar, true);
      else await spy.subscribe('socket.io-request#/#', liar, true);
      const begun = performance.now();
      const status = await A.get('/user/target/status');
      assert.ok(performance.now() - begun < 4000, `answered after ${performance.now() - begun} ms`);
      assert.ok(status.connected && status.sockets >= 2, JSON.stringify(status));
      spy.destroy();
      await assertUnharmed('a liar');
    });

    test('a Node server that comes afterwards understands everything', async () => {
      const C = await startNode(redis, { name: 'C', adapter });
      try {
        await assembled(C, 3);
        const own = await connect(C, 'own');
        assert.equal((await C.ask('fetchSockets', { rooms: [USER] })).value?.length, 2);
        await A.emit({ rooms: ['user:own'], args: ['hello'] });
        await own.event('hello');
        await C.emit({ rooms: [USER], args: ['good 0'] });
        for (const client of [target, joined]) await until(3000, 'it comes', () => client.events.seen, (seen) => seen.some((one) => one[0] === 'good 0'));
        for (const client of [target, joined]) client.events.seen.length = 0;
        await A.get('/user/target/status');
        assert.deepEqual(await C.complaints(), []);
      } finally {
        await C.stop();
      }
    });
  });
}
