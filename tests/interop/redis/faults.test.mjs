// Redis killed, absent, frozen, too slow to be read; a server killed or frozen: the others go on, and all is well when it is back.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { call } from '../lib/api.mjs';
import { closeClients } from '../lib/client.mjs';
import { adapters, assembled, connect, heard, peersAreNode, startNode, startPeer } from '../lib/cluster.mjs';
import { request } from '../lib/http.mjs';
import { lastingPort } from '../lib/port.mjs';
import { RedisServer } from '../lib/redis.mjs';
import { pause, until } from '../lib/wait.mjs';

const RECOVERY_MS = 8000;
/** Within a moment, also on a busy machine: Node's answers fail after five seconds. */
const SOON_MS = 4000;

const ready = async (server) => (await request(server, '/ready')).text;
const isDown = (text) => /"redis":\s*"down"/.test(text);

const ticking = new Set();

/** Emits to one user again and again, each time with the next number. */
class Ticker {
  sent = 0;
  #running = true;

  constructor(server, user, client, every = 10) {
    Object.assign(this, { event: `tick ${server.name} ${user} ${Math.random()}`, server, client });
    ticking.add(this);
    this.done = (async () => {
      while (this.#running) {
        const number = this.sent;
        this.sent += 1;
        // A server that does not answer must not stop the clock.
        Promise.resolve(server.emit({ rooms: [`user:${user}`], args: [this.event, number] })).catch(() => {});
        await pause(every);
      }
    })();
  }

  get got() {
    return this.client.events.seen.filter((one) => one[0] === this.event).map((one) => one[1]);
  }

  async stop() {
    this.#running = false;
    ticking.delete(this);
    await this.done;
  }

  /** Never twice, and from Node never out of order; requests to an API that overlap have none. */
  assertOrder(what) {
    const { got } = this;
    const list = this.server.kind === 'node' ? got : got.sort((a, b) => a - b);
    for (let index = 1; index < list.length; index += 1) assert.ok(list[index] > list[index - 1], `${what}: ${list[index]} after ${list[index - 1]}`);
  }

  async assertAll(what) {
    await until(RECOVERY_MS, `${what}: all ${this.sent} came`, () => this.got.length, (count) => count === this.sent);
    this.assertOrder(what);
  }
}

for (const adapter of adapters) {
  describe(`faults, ${adapter} adapter`, { timeout: 90000 }, () => {
    let redis;
    let servers = {};
    const all = () => Object.values(servers);

    before(async () => {
      redis = await RedisServer.start();
      const [A, B, C] = await Promise.all([startPeer(redis, { name: 'A', adapter }), startPeer(redis, { name: 'B', adapter }), startNode(redis, { name: 'C', adapter })]);
      servers = { A, B, C };
      await assembled(C, 3);
    });

    afterEach(async () => {
      for (const ticker of ticking) await ticker.stop();
      closeClients();
    });

    after(async () => {
      closeClients();
      for (const server of all()) await server.stop();
      await redis?.stop();
    });

    /** A client on each server. */
    async function clientsOf(name) {
      const entries = await Promise.all(all().map(async (server) => [server.name, { user: `${name}-${server.name}`, client: await connect(server, `${name}-${server.name}`) }]));
      await heard(redis, adapter, entries.map(([, { user }]) => ['/', `user:${user}`, 1]));
      return Object.fromEntries(entries);
    }

    /** From each server to each client, and to all, once. */
    async function assertWhole(clients, what, ms = RECOVERY_MS) {
      const begun = Date.now();
      let round = 0;
      await until(ms, `${what}: everyone is reached from everywhere`, async () => {
        round += 1;
        const events = [];
        for (const server of all()) {
          for (const { user } of Object.values(clients)) {
            Promise.resolve(server.emit({ rooms: [`user:${user}`], args: [`${what} ${round} ${server.name}`] })).catch(() => {});
          }
          Promise.resolve(server.emit({ args: [`${what} ${round} ${server.name} to all`] })).catch(() => {});
          events.push(`${what} ${round} ${server.name}`, `${what} ${round} ${server.name} to all`);
        }
        const missing = () => Object.entries(clients).flatMap(([letter, { client }]) => events
          .map((event) => [event, client.events.seen.filter((one) => one[0] === event).length])
          .filter(([, count]) => count !== 1).map(([event, count]) => `${letter}: ${event}: ${count}`));
        const end = Date.now() + 300 * round;
        while (missing().length > 0 && Date.now() < end) await pause(10);
        return missing();
      }, (missing) => missing.length === 0, 20);
      return Date.now() - begun;
    }

    test('Redis is killed under load and comes back on its port', async () => {
      const clients = await clientsOf('restart');
      await assertWhole(clients, 'before');
      const local = new Ticker(servers.A, clients.A.user, clients.A.client);
      const across = new Ticker(servers.C, clients.B.user, clients.B.client);
      await pause(200);
      await redis.kill();
      await pause(1200);
      if (!peersAreNode) {
        await until(SOON_MS, 'sockring says that Redis is down', () => ready(servers.A), isDown);
        assert.equal((await request(servers.A, '/ready')).status, 200);
        const answer = await call(servers.A, 'POST', '/emit', { event: 'x', user: clients.A.user });
        assert.deepEqual(answer.json().data, { delivered: 1, published: false });
        await until(SOON_MS, 'it has come', () => clients.A.client.events.seen.some((one) => one[0] === 'x'));
      }
      await redis.begin();
      const took = await assertWhole(clients, 'after the restart');
      await local.stop();
      await across.stop();
      if (adapter === 'classic' || !peersAreNode) await local.assertAll('local delivery');
      across.assertOrder('across');
      assert.ok(took < RECOVERY_MS, `${took} ms`);
      if (!peersAreNode) await until(SOON_MS, 'sockring says that Redis is up', () => ready(servers.A), (text) => !isDown(text));
      await assembled(servers.C, 3);
      assert.equal((await servers.C.ask('fetchSockets')).value?.length, 3);
    });

    test('only the subscribers are cut off: they are back at once', async () => {
      const clients = await clientsOf('cut');
      for (let round = 0; round < 3; round += 1) {
        await redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub');
        await assertWhole(clients, `cut ${round}`);
      }
      await assembled(servers.C, 3);
    });

    test('Redis is frozen for five seconds', async () => {
      const clients = await clientsOf('frozen');
      const local = new Ticker(servers.A, clients.A.user, clients.A.client, 25);
      redis.signal('SIGSTOP');
      try {
        await pause(1000);
        if (!peersAreNode) {
          const begun = performance.now();
          const late = await connect(servers.A, 'frozen-late');
          assert.ok(performance.now() - begun < SOON_MS, `a client gets in after ${performance.now() - begun} ms`);
          clients.late = { user: 'frozen-late', client: late };
          const asked = performance.now();
          assert.equal((await call(servers.A, 'POST', '/emit', { event: 'y', user: clients.A.user })).json().data.delivered, 1);
          const status = await call(servers.A, 'GET', `/user/${clients.A.user}/status`);
          assert.equal(status.json().data.connected, true);
          assert.ok(performance.now() - asked < SOON_MS, `answers of the API take ${performance.now() - asked} ms`);
        }
        await pause(4000);
      } finally {
        redis.signal('SIGCONT');
      }
      await assertWhole(clients, 'after the frost', 8000);
      await local.stop();
      if (!peersAreNode) await local.assertAll('local delivery');
      for (const server of all()) server.assertAlive();
    });

    // What is in a stream waits there for who is slow, or gone.
    const published = { skip: adapter === 'streams' && process.env.FAULTS !== 'all' && 'about connections on which much is published' };

    test('a server that cannot be read while much is published: cut off by Redis, and back', published, async () => {
      const clients = await clientsOf('slow');
      await redis.command('CONFIG', 'SET', 'client-output-buffer-limit', 'pubsub 2mb 1mb 1');
      servers.A.child.kill('SIGSTOP');
      try {
        for (let number = 0; number < 150; number += 1) await servers.C.emit({ rooms: [`user:${clients.A.user}`], flags: {}, args: ['much', 'x'.repeat(200_000)] });
        await pause(300);
      } finally {
        servers.A.child.kill('SIGCONT');
        await redis.command('CONFIG', 'SET', 'client-output-buffer-limit', 'pubsub 32mb 8mb 60');
      }
      // Its client may have been closed for not reading; it comes back by itself.
      await until(5000, 'the client is connected', () => clients.A.client.socket.connected);
      await assertWhole(clients, 'after the flood', 8000);
    });

    test('kill -9 of a Node server under load: the others go on, and it is welcome again', published, async () => {
      const D = await startNode(redis, { name: 'D', adapter, port: await lastingPort() });
      servers.D = D;
      const clients = await clientsOf('node-killed');
      await assertWhole(clients, 'before');
      const tickers = [new Ticker(servers.B, clients.A.user, clients.A.client), new Ticker(servers.C, clients.B.user, clients.B.client), new Ticker(servers.A, clients.C.user, clients.C.client)];
      await pause(200);
      await D.stop();
      delete servers.D;
      await pause(500);
      await assembled(servers.C, 3);
      assert.equal((await servers.C.ask('fetchSockets')).value?.length, 3);
      servers.D = await startNode(redis, { name: 'D', adapter, port: D.port });
      await clients.D.client.connects.next(5000, 'the client is back');
      await heard(redis, adapter, [['/', `user:${clients.D.user}`, 1]]);
      await assertWhole(clients, 'after');
      for (const ticker of tickers) await ticker.stop();
      for (const ticker of tickers) await ticker.assertAll('the others');
      await servers.D.stop();
      delete servers.D;
    });

    test('kill -9 of a server under test under load: the others go on, and it is welcome again', async () => {
      const port = await lastingPort();
      servers.E = await startPeer(redis, { name: 'E', adapter, port });
      const clients = await clientsOf('killed');
      await assertWhole(clients, 'before');
      const tickers = [new Ticker(servers.B, clients.A.user, clients.A.client), new Ticker(servers.C, clients.B.user, clients.B.client), new Ticker(servers.A, clients.C.user, clients.C.client)];
      await pause(200);
      await servers.E.stop();
      delete servers.E;
      await pause(500);
      await assembled(servers.C, 3);
      assert.equal((await servers.C.ask('fetchSockets')).value?.length, 3);
      servers.E = await startPeer(redis, { name: 'E', adapter, port });
      await clients.E.client.connects.next(5000, 'the client is back');
      await heard(redis, adapter, [['/', `user:${clients.E.user}`, 1]]);
      await assertWhole(clients, 'after');
      for (const ticker of tickers) await ticker.stop();
      for (const ticker of tickers) await ticker.assertAll('the others');
      await assembled(servers.C, 4);
      await servers.E.stop();
      delete servers.E;
      await assembled(servers.C, 3);
    });

    test('a frozen peer: answers are partial and in time, and say that somebody is missing', { skip: peersAreNode && 'Node gives an error after five seconds' }, async () => {
      const clients = await clientsOf('peer-frozen');
      const { A, C } = servers;
      C.child.kill('SIGSTOP');
      try {
        const begun = performance.now();
        const status = await A.get(`/user/${clients.B.user}/status`);
        const took = performance.now() - begun;
        assert.deepEqual([status.connected, status.sockets, status.missing], [true, 1, 1], JSON.stringify(status));
        assert.ok(Array.isArray(status.missingInstances), JSON.stringify(status));
        assert.ok(took < SOON_MS, `the answer took ${took} ms`);
        assert.equal((await A.get('/stats')).instances, 3);
        assert.ok(performance.now() - begun - took < SOON_MS, 'stats are in time');
        await A.emit({ rooms: [`user:${clients.B.user}`], args: ['on'] });
        await until(SOON_MS, 'emits go on', () => clients.B.client.events.seen.some((one) => one[0] === 'on'));
      } finally {
        C.child.kill('SIGCONT');
      }
      await assertWhole(clients, 'after');
      assert.equal((await A.get(`/user/${clients.C.user}/status`)).missing, 0);
    });

    // Node waits five seconds for it: for one adapter only.
    test('a frozen Node server: another one has nothing to say, and this one what it has before that', { skip: (peersAreNode || adapter !== 'classic') && 'once, about sockring' }, async () => {
      const D = await startNode(redis, { name: 'D', adapter });
      try {
        const { A, C } = servers;
        const clients = await Promise.all([A, servers.B, D].map((server) => connect(server, 'beside')));
        await assembled(D, 4);
        C.child.kill('SIGSTOP');
        const answers = [];
        await Promise.all([
          D.ask('fetchSockets', { rooms: ['user:beside'] }).then(({ error }) => answers.push(['Node', error])),
          A.get('/user/beside/status').then(({ sockets, missing }) => answers.push(['sockring', { sockets, missing }])),
        ]);
        assert.deepEqual(answers[0], ['sockring', { sockets: clients.length, missing: 1 }]);
        assert.match(answers[1][1], /timeout reached/);
      } finally {
        servers.C.child.kill('SIGCONT');
        await D.stop();
      }
      await assembled(servers.C, 3);
    });

    test('no Node server has complained', async () => {
      assert.deepEqual(await servers.C.complaints(), []);
    });
  });

  test(`Redis is absent at boot, ${adapter} adapter`, { timeout: 30000, skip: peersAreNode && 'Node waits for it' }, async () => {
    const redis = await RedisServer.reserve();
    const A = await startPeer(redis, { name: 'A', adapter });
    let C;
    try {
      const response = await request(A, '/ready');
      assert.equal(response.status, 200);
      assert.match(response.text, /"redis":\s*"down"/);
      const client = await connect(A, 'boot');
      await A.emit({ rooms: ['user:boot'], args: ['local', 1] });
      assert.equal(await client.event('local'), 1);
      const status = (await call(A, 'GET', '/user/boot/status')).json().data;
      assert.deepEqual([status.connected, status.sockets], [true, 1]);
      await redis.begin();
      C = await startNode(redis, { name: 'C', adapter });
      await until(RECOVERY_MS, 'it finds Redis', () => ready(A), (text) => !isDown(text));
      await assembled(C, 2, RECOVERY_MS);
      const other = await connect(C, 'boot-other');
      await heard(redis, adapter, [['/', 'user:boot-other', 1]]);
      await C.emit({ rooms: ['user:boot'], args: ['across', 2] });
      assert.equal(await client.event('across'), 2);
      await A.emit({ rooms: ['user:boot-other'], args: ['back', 3] });
      assert.equal(await other.event('back'), 3);
      assert.deepEqual(await C.complaints(), []);
    } finally {
      closeClients();
      await A.stop();
      await C?.stop();
      await redis.stop();
    }
  });

  test(`SOCKRING_READY_REQUIRES_REDIS, ${adapter} adapter`, { timeout: 30000, skip: (peersAreNode || adapter === 'sharded') && 'sockring only, once' }, async () => {
    const redis = await RedisServer.reserve();
    const A = await startPeer(redis, { name: 'A', adapter, env: { SOCKRING_READY_REQUIRES_REDIS: 'true' } });
    try {
      assert.equal((await request(A, '/ready')).status, 503);
      await redis.begin();
      await until(RECOVERY_MS, 'it is ready', async () => (await request(A, '/ready')).status, (status) => status === 200);
    } finally {
      await A.stop();
      await redis.stop();
    }
  });
}
