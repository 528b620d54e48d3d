// Redis Cluster with three masters and the sharded adapter: channels of one server are on all of them, and come back.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { closeClients } from '../lib/client.mjs';
import { connect, startServers, stopServers } from '../lib/cluster.mjs';
import { Crowd } from '../lib/crowd.mjs';
import { emitAll, emitRows, inJson } from '../lib/emits.mjs';
import { RedisCluster } from '../lib/redis.mjs';
import { until } from '../lib/wait.mjs';

describe('a Redis Cluster of three masters, sharded adapter', { timeout: 60000 }, () => {
  let redis;
  let servers;
  let crowd;

  before(async () => {
    redis = await RedisCluster.start();
    servers = await startServers(redis, 'sharded');
    crowd = await Crowd.gather(servers, redis, 'sharded');
    crowd.forget();
  });

  after(async () => {
    closeClients();
    if (servers) await stopServers(servers);
    await redis?.stop();
  });

  for (const letter of ['A', 'C']) {
    test(`emits from ${letter}`, async () => {
      const server = servers[letter];
      const list = server.kind === 'node' ? emitRows(crowd) : emitRows(crowd).filter(inJson);
      await emitAll(crowd, letter, list, (row) => server.emit(row));
    });
  }

  test('fetchSockets counts every server', async () => {
    const answer = await servers.C.ask('fetchSockets');
    assert.equal(answer.value?.length, crowd.main.length, answer.error);
  });

  /** Users of one server whose channels are on different masters. */
  async function scattered(letter) {
    const found = new Map();
    for (let number = 0; found.size < 3; number += 1) {
      const user = `scattered-${letter}-${number}`;
      const owner = await redis.owner(`socket.io#/#user:${user}#`);
      if (!found.has(owner)) found.set(owner, user);
    }
    return Promise.all([...found.values()].map(async (user) => ({ user, client: await connect(servers[letter], user) })));
  }

  /** Every one of them is reached by every kind of message again, within `ms`, and once. */
  async function assertReached(list, what, ms = 8000) {
    let round = 0;
    await until(ms, `${what}: all are reached`, async () => {
      round += 1;
      const event = `${what} ${round}`;
      for (const { user } of list) await servers.D.emit({ rooms: [`user:${user}`], args: [event] }).catch(() => {});
      await servers.D.emit({ args: [`all ${event}`] }).catch(() => {});
      const end = Date.now() + 150;
      const got = () => list.map(({ client }) => [event, `all ${event}`].map((name) => client.events.seen.filter((one) => one[0] === name).length));
      while (got().flat().some((count) => count !== 1) && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 10));
      return got();
    }, (got) => got.flat().every((count) => count === 1), 100);
  }

  test('subscriptions come back after CLIENT KILL of all subscribers of one master', async () => {
    const list = [...await scattered('A'), ...await scattered('B')];
    await assertReached(list, 'before');
    for (const master of redis.masters) {
      const killed = await master.command('CLIENT', 'KILL', 'TYPE', 'pubsub');
      assert.ok(Number(killed) > 0, 'somebody was subscribed');
      await assertReached(list, `after CLIENT KILL on ${master.port}`);
    }
    for (const { client } of list) client.close();
  });

  test('and after a master was killed and is back', async () => {
    const list = [...await scattered('A'), ...await scattered('B')];
    const [, master] = redis.masters;
    await master.kill();
    const local = await connect(servers.A, 'while-a-master-is-gone');
    if (servers.A.kind !== 'node') {
      // Node delivers nothing, not even to its own sockets, until it has published.
      await servers.A.emit({ rooms: ['user:while-a-master-is-gone'], args: ['local'] });
      await local.event('local');
    }
    await master.begin();
    await redis.formed();
    await assertReached([...list, { user: 'while-a-master-is-gone', client: local }], 'after the restart', 15000);
    for (const letter of ['A', 'B']) servers[letter].assertAlive();
  });

  test('no Node server has complained', async () => {
    for (const server of Object.values(servers)) assert.deepEqual(await server.complaints(), [], server.name);
  });
});
