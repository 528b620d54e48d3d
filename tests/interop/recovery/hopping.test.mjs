// With one stream a client may come back to any server: what it has missed comes there, also if its server was killed. A few seconds of
// what `hopping.mjs` does for minutes, and each way between ours and Node's by itself.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { api } from '../lib/api.mjs';
import { adapters, startNode, startPeer } from '../lib/cluster.mjs';
import { hopping } from '../lib/hopping.mjs';
import { reference } from '../lib/program.mjs';
import { RedisServer } from '../lib/redis.mjs';
import { Visitor } from '../lib/visitor.mjs';
import { load } from '../lib/client.mjs';
import { tokenFor } from '../lib/jwt.mjs';
import { until, within } from '../lib/wait.mjs';

const adapter = 'streams';
const skip = reference || !adapters.includes(adapter);

/** A stock client that goes where it is told. */
class Traveller {
  got = [];

  static async come(user, server) {
    const traveller = new Traveller();
    const io = await load('4.8.4');
    traveller.user = user;
    traveller.socket = io(server.url, { forceNew: true, transports: ['websocket'], auth: { token: tokenFor(user) }, reconnection: false });
    traveller.socket.on('numbered', (n) => traveller.got.push(n));
    await traveller.#connected();
    return traveller;
  }

  async #connected() {
    // A Node server sends its greeting by way of Redis too, and what comes then may overtake it: its offset would be the last one.
    await within(5000, `${this.user} is greeted`, new Promise((resolve) => this.socket.once('connected', resolve)));
    return { id: this.socket.id, recovered: this.socket.recovered };
  }

  async has(...numbers) {
    await until(3000, `${this.user} gets ${numbers}`, () => this.got, (got) => got.length >= numbers.length, 5);
    assert.deepEqual(this.got, numbers);
  }

  async leave() {
    this.socket.io.engine?.close();
    await until(2000, `${this.user} is gone`, () => this.socket.connected, (connected) => !connected, 5);
  }

  /** Goes to another server, or the same. */
  async to(server) {
    this.socket.io.uri = server.url;
    this.socket.connect();
    return this.#connected();
  }

  end() {
    this.socket.disconnect();
  }
}

const emit = (server, user, n) => server.emit({ rooms: [`user:${user}`], args: ['numbered', n] });

describe('any server of one stream', { timeout: 60000, skip }, () => {
  let redis;
  let servers;

  before(async () => {
    redis = await RedisServer.start();
    const [A, B, C] = await Promise.all([
      startPeer(redis, { name: 'A', adapter, env: { SOCKRING_RECOVERY_OFFSET: 'argument' } }), startPeer(redis, { name: 'B', adapter, env: { SOCKRING_SHARDS: '3' } }),
      startNode(redis, { name: 'C', adapter, env: { RECOVERY_MS: '120000' } }),
    ]);
    servers = { A, B, C };
  });

  after(async () => {
    await Promise.all(Object.values(servers ?? {}).map((server) => server.stop()));
    await redis?.stop();
  });

  /** Its session is where another server finds it. */
  const isKept = ({ socket }) => until(2000, 'its session is kept', () => redis.command('EXISTS', `sio:session:${socket._pid}`), (count) => count === 1, 5);

  for (const [from, to, emitter] of [['A', 'B', 'A'], ['B', 'A', 'C'], ['A', 'C', 'B'], ['C', 'A', 'A'], ['B', 'C', 'B'], ['C', 'B', 'A']]) {
    test(`from ${from} to ${to}, while ${emitter} emits`, async () => {
      const user = `way-${from}${to}`;
      const traveller = await Traveller.come(user, servers[from]);
      const { id } = traveller.socket;
      await emit(servers[emitter], user, 0);
      await traveller.has(0);
      await traveller.leave();
      await isKept(traveller);
      for (const n of [1, 2]) await emit(servers[emitter], user, n);
      // What a Node server has read by then it has given to those that were there.
      await until(2000, 'both are in the stream', async () => (await redis.command('XREVRANGE', 'socket.io', '+', '-', 'COUNT', '2')).filter(([, fields]) => fields[7].includes(user)).length, (count) => count === 2, 5);
      assert.deepEqual(await traveller.to(servers[to]), { id, recovered: true });
      await emit(servers[emitter], user, 3);
      await traveller.has(0, 1, 2, 3);
      // And back again, under the same name.
      await traveller.leave();
      await isKept(traveller);
      await emit(servers.A, user, 4);
      await until(2000, 'it is in the stream', async () => (await redis.command('XREVRANGE', 'socket.io', '+', '-', 'COUNT', '1'))[0][1][7].includes(user), (is) => is, 5);
      assert.deepEqual(await traveller.to(servers[from]), { id, recovered: true });
      await traveller.has(0, 1, 2, 3, 4);
      traveller.end();
    });
  }

  test('rooms go along, with when it was in which', async () => {
    const { A, B } = servers;
    const visitor = await Visitor.connect(B, 'roomy');
    const room = (n, name) => api(A, 'POST', '/emit', { event: 'numbered', data: n, room: name });
    await room('before', 'hops');
    await api(A, 'POST', '/rooms/join', { user: 'roomy', room: 'hops' });
    await api(A, 'POST', '/rooms/join', { user: 'roomy', room: 'left' });
    await room('both', 'left');
    await until(2000, 'it is in the rooms', () => visitor.events.map((event) => event[1]), (got) => got.includes('both'), 5);
    await api(A, 'POST', '/rooms/leave', { user: 'roomy', room: 'left' });
    // What comes behind that in the stream.
    await visitor.all();
    await visitor.cut();
    await room('missed', 'hops');
    await room('not its', 'left');
    const back = await visitor.back({});
    assert.equal(back.recovered, true);
    assert.deepEqual(await back.all(), ['missed']);
    await back.cut();
    const there = await Visitor.connect(A, 'roomy', { pid: back.pid, offset: back.offset });
    await room('there', 'hops');
    assert.deepEqual([await there.all(), there.sid], [['there'], visitor.sid]);
    await there.cut();
  });

  test('another user, and who makes a pid up, begin anew at any server', async () => {
    const { A, B } = servers;
    const visitor = await Visitor.connect(A, 'owner');
    await api(A, 'POST', '/emit', { event: 'numbered', data: 'mine', user: 'owner' });
    await until(2000, 'it has a position', () => visitor.offset, (offset) => offset !== undefined, 5).catch(() => {});
    const offset = `${Date.now() - 60000}-0`;
    for (const pid of [visitor.pid, 'A'.repeat(20), 'A'.repeat(44)]) {
      const thief = await Visitor.connect(B, 'thief', { pid, offset });
      assert.deepEqual([thief.recovered, await thief.all(), thief.sid === visitor.sid], [false, [], false]);
      await thief.cut();
    }
    await visitor.cut();
  });
});

test('servers are killed in turn, and clients hop', { timeout: 60000, skip }, async (t) => {
  const result = await hopping({ ours: 2, nodes: 1, clients: 24, rate: 60, ms: 5000, hopEvery: 40, killEvery: 1200, away: 100 });
  t.diagnostic(JSON.stringify(result));
  const { lost, doubled, recovered } = result.settled;
  assert.deepEqual({ lost, doubled }, { lost: 0, doubled: 0 });
  assert.ok(recovered > 15, `${recovered} recoveries are not enough to see anything`);
  assert.ok(result.kills[0] + result.kills[1] >= 2, `${result.kills} kills are too few`);
});
