// Redis Cluster with three masters and the sharded adapter: channels of one server are on all of them, and come back.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { connect, heard } from '../lib/cluster.mjs';
import { crowded } from '../lib/crowd.mjs';
import { emitAll, emitRows, inJson } from '../lib/emits.mjs';
import { gather } from '../lib/flock.mjs';
import { RedisCluster } from '../lib/redis.mjs';
import { until } from '../lib/wait.mjs';

describe('a Redis Cluster of three masters, sharded adapter', { timeout: 60000 }, () => {
  let redis;
  let servers;
  let crowd;

  crowded(() => RedisCluster.start(), 'sharded', (all) => ({ redis, servers, crowd } = all));

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
      const end = Date.now() + 150 * round;
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

  test('slots that move while much is published take their rooms along, and no others', async () => {
    const users = Array.from({ length: 90 }, (_, number) => `moving-${number}`);
    const got = new Map(users.map((user) => [user, []]));
    const flock = await gather(users.map((user, number) => [servers['AB'[number % 2]], user]), (user, bytes, begin, end) => {
      const [event, round] = JSON.parse(bytes.toString('utf8', begin, end));
      if (event === 'round') got.get(user).push(round);
    });
    const channels = users.map((user) => `socket.io#/#user:${user}#`);
    const followed = () => heard(redis, 'sharded', users.map((user) => ['/', `user:${user}`, 1]), 10000);
    await followed();
    const [from, to] = redis.masters;
    const owners = await Promise.all(channels.map((channel) => redis.owner(channel)));
    const slots = await Promise.all(channels.filter((_, index) => owners[index] === from).map((channel) => redis.slot(channel)));
    assert.ok(slots.length > 10, `${slots.length} slots move`);
    let rounds = 0;
    const tell = () => servers.D.ask('emits', users.map((user) => ({ rooms: [`user:${user}`], args: ['round', rounds] })));
    let isMoving = true;
    const moved = redis.moveSlots(new Set(slots), from, to).finally(() => (isMoving = false));
    for (; isMoving || rounds < 20; rounds += 1) await tell();
    await moved;
    await followed();
    const last = rounds;
    await tell();
    await until(5000, 'all have come to the last round', () => users.filter((user) => !got.get(user).includes(last)), ({ length }) => length === 0);
    flock.leave();
    const all = Array.from({ length: last + 1 }, (_, round) => round);
    let lost = 0;
    for (const [index, user] of users.entries()) {
      if (owners[index] !== from) assert.deepEqual(got.get(user), all, `${user}, whose slot has stayed`);
      // Its events may overtake each other: node-redis asks the old node first, and then the new one.
      else assert.equal(new Set(got.get(user)).size, got.get(user).length, `${user}: none twice`);
      lost += all.length - got.get(user).length;
    }
    // What is published where nobody is any more, at the moment of a move.
    assert.ok(lost <= 0.1 * slots.length * all.length, `${lost} lost`);
  });

  test('no Node server has complained', async () => {
    for (const server of Object.values(servers)) assert.deepEqual(await server.complaints(), [], server.name);
  });
});
