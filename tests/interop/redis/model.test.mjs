// Random operations, by senders of each kind, among two servers under test and two of Node, against a model: what a client gets
// is what one single server would have given it.
//   OPERATIONS=100000: of each sender; MINUTES=10: so long instead; SEED=7

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { Emitter } from '@socket.io/redis-emitter';
import { createClient } from 'redis';
import { api } from '../lib/api.mjs';
import { adapters, emitBody, heard, peersAreNode, startServers, stopServers } from '../lib/cluster.mjs';
import { emitterDoes } from '../lib/emits.mjs';
import { gather } from '../lib/flock.mjs';
import { Model } from '../lib/model.mjs';
import { RedisServer } from '../lib/redis.mjs';
import { pause, until } from '../lib/wait.mjs';

const MINUTES = Number(process.env.MINUTES ?? 0);
const OPERATIONS = MINUTES > 0 ? Infinity : Number(process.env.OPERATIONS ?? 2000);
const SEED = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
const USERS = 15;
const ROOMS = 8;
/** Steps in one go, with nothing between them. */
const AT_ONCE = 200;
/**
 * A sender goes on while no user misses more: less than what any server or Redis lets wait for somebody. A stream has 10,000
 * entries, and about one of five is for a user.
 */
const AHEAD_MAX = { classic: 3000, sharded: 3000, streams: 1000 };
/** Nothing has come to anybody for so long: something is lost. Far more than anything takes on a busy machine. */
const STALLED_MS = 20_000;
/** A call of the API for each. */
const API_SHARE = 0.05;

for (const adapter of adapters) {
  describe(`random operations, ${adapter} adapter, seed ${SEED}`, { timeout: 120_000 + (MINUTES > 0 ? MINUTES * 60_000 : OPERATIONS * 40) }, () => {
    let redis;
    let servers;
    let client;
    let flock;
    const users = Array.from({ length: USERS }, (_, index) => `m${index}`);
    const sids = new Map();
    const models = new Map();
    // Node's sharded adapter loses what is sent to a room until it has subscribed it: there somebody is always in each, on every server.
    const residents = adapter === 'sharded' ? ['A', 'B', 'D'].map((letter) => `resident-${letter}`) : [];

    before(async () => {
      redis = await RedisServer.start();
      servers = await startServers(redis, adapter);
      // Node-redis gives up after five seconds what it has not written, which is soon on a busy machine.
      client = createClient({ url: redis.url, commandOptions: { timeout: 120_000 } });
      await client.connect();
      // Not on C, which sends: a Node server emits to its own sockets at once, and changes their rooms by way of Redis.
      const places = [...users.map((user, index) => ['ABD'[index % 3], user]), ...residents.map((user) => [user.at(-1), user])];
      flock = await gather(places.map(([letter, user]) => [servers[letter], user]), (user, bytes, begin, end) => {
        const [event, first, number] = JSON.parse(bytes.toString('utf8', begin, end));
        if (event === 'connected') sids.set(user, first.socketId);
        else if (!residents.includes(user)) models.get(first).on(user, number);
      });
      await until(5000, 'all know their sids', () => sids.size, (size) => size === places.length);
      await heard(redis, adapter, places.map(([, user]) => ['/', `user:${user}`, 1]));
    });

    afterEach(() => models.clear());

    after(async () => {
      flock?.leave();
      client?.destroy();
      if (servers) await stopServers(servers);
      await redis?.stop();
    });

    /** How each kind of sender does some steps, and waits until Redis has all of them. */
    const senders = {
      'a Node server': (steps) => servers.C.ask('sequence', steps, 60_000),
      'redis-emitter': async (steps) => {
        const emitter = new Emitter(client);
        steps.forEach((step) => emitterDoes(emitter, step));
        await client.ping();
      },
      'the API': async (steps, model) => {
        for (const [operation, { rooms, except, args, join, leave }] of steps) {
          if (operation === 'emit') {
            const { published } = await api(servers.A, 'POST', '/emit', emitBody({ rooms, except, args }));
            // Redis has not said in time that it has it: it may come, in its place, or not.
            if (!published) model.perhaps(args.at(-1));
          } else for (const room of join ?? leave) await inRoom(join ? 'join' : 'leave', rooms, room);
        }
      },
    };

    /** The API names one user or one socket of those who join and leave. What is not confirmed in time is ordered again. */
    function inRoom(order, [who], room) {
      const target = who.startsWith('user:') ? { user: who.slice(5) } : { socketId: who };
      return until(STALLED_MS, `to ${order} ${room} is confirmed`, () => api(servers.A, 'POST', `/rooms/${order}`, { ...target, room }), (answer) => answer.published && (answer.confirmed ?? true), 0);
    }

    /** What is lost on the way through Node or Redis, and is not ours. */
    async function assertNobodyGaveUp() {
      for (const letter of ['C', 'D']) assert.deepEqual(await servers[letter].ask('errors'), [], `Node server ${letter}`);
      assert.equal(flock.gone(), 0, 'clients were closed');
      const cut = /client_output_buffer_limit_disconnections:(\d+)/.exec(await redis.command('INFO', 'stats'));
      assert.equal(Number(cut?.[1] ?? 0), 0, 'Redis cut somebody off');
    }

    /** Until at most so many events are on their way to each user. Time matters only when nothing comes any more. */
    async function catchUp(model, most) {
      for (let [seen, since] = [model.delivered, Date.now()]; !model.wrong && model.waiting > most; await pause(1)) {
        if (model.delivered > seen) [seen, since] = [model.delivered, Date.now()];
        else if (Date.now() - since > STALLED_MS) model.wrong = `nothing has come for ${STALLED_MS} ms, and ${model.waiting} events have not come`;
      }
      if (!model.wrong) return;
      await assertNobodyGaveUp();
      assert.fail(model.wrong);
    }

    async function run(by, index, share, signal) {
      const name = by.replace(/^(a|the) /, '').replace(/ /g, '-');
      const model = new Model({ name, seed: SEED + 7919 * index, users, sids, rooms: ROOMS, spare: residents.length > 0 ? 'residents' : undefined, single: by === 'the API' });
      models.set(name, model);
      for (const user of residents) await senders['a Node server']([['socketsJoin', { rooms: [`user:${user}`], join: [...model.rooms, 'residents'] }]]);
      await heard(redis, adapter, [...model.rooms, ...(residents.length > 0 ? ['residents'] : [])].map((room) => ['/', room, residents.length]));
      const end = MINUTES > 0 ? Date.now() + MINUTES * 60_000 : Infinity;
      while (model.number < OPERATIONS * share && Date.now() < end && !signal.aborted) {
        await senders[by](Array.from({ length: Math.ceil(AT_ONCE * share) }, () => model.step()), model);
        await catchUp(model, AHEAD_MAX[adapter]);
      }
      await senders[by]([model.last()], model);
      await catchUp(model, 0);
      return `${name}: ${model.number} operations, ${model.delivered} events`;
    }

    // Of the sharded adapter there is no emitter that orders, and redis-emitter speaks the classic one.
    const kinds = [['a Node server', 1], ...(adapter === 'classic' ? [['redis-emitter', 1]] : []), ...(peersAreNode ? [] : [['the API', API_SHARE]])];
    test(`by ${kinds.map(([by]) => by).join(', ')}, at the same time`, async (context) => {
      // Where one fails the others end.
      const failed = new AbortController();
      const runs = kinds.map(([by, share], index) => run(by, index, share, failed.signal).catch((error) => {
        failed.abort();
        throw error;
      }));
      for (const { reason, value } of await Promise.allSettled(runs)) {
        if (reason) throw reason;
        context.diagnostic(value);
      }
      await assertNobodyGaveUp();
    });
  });
}
