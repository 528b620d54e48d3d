// The clients of the cluster tests: on each server the same five, in rooms that cross the servers.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { closeClients } from './client.mjs';
import { connect, heard, startServers, stopServers } from './cluster.mjs';
import { brief, pause, until } from './wait.mjs';

export const ODD_ROOM = 'odd*room?[x]\\y#z# é';
/** The sharded adapter takes it for a socket id. */
export const ROOM_OF_20 = 'room-of-20-letters-x';

/** Who is in which room, in the main namespace and in /admin. Numbers are rooms too. */
const MEMBERS = [
  ['/', 'r1', ['A.web', 'B.poll', 'C.web', 'D.poll']],
  ['/', 'r2', ['A.poll', 'C.web', 'D.multi']],
  ['/', 42, ['B.web', 'D.web']],
  ['/', ODD_ROOM, ['A.web', 'C.poll']],
  ['/', ROOM_OF_20, ['A.web', 'B.poll', 'D.web']],
  ['/admin', 'r1', ['A.admin', 'D.admin']],
];

export class Crowd {
  clients = {};

  /** Connects all of them and waits until every server knows every room, and hears it. */
  static async gather(servers, redis, adapter) {
    const crowd = new Crowd();
    Object.assign(crowd, { servers, redis, adapter });
    const kinds = [
      ['web', (letter) => `web-${letter}`, {}],
      ['poll', (letter) => `poll-${letter}`, { transports: ['polling'] }],
      ['multi', () => 'multi', {}],
      ['up', (letter) => `up-${letter}`, { transports: ['polling', 'websocket'] }],
      ['admin', (letter) => `web-${letter}`, { namespace: '/admin' }],
    ];
    await Promise.all(Object.values(servers).flatMap((server) => kinds.map(async ([kind, user, options]) => {
      const client = await connect(server, user(server.name), options);
      if (kind === 'up') await client.upgrade();
      crowd.clients[`${server.name}.${kind}`] = client;
    })));
    await crowd.#furnish();
    return crowd;
  }

  async #furnish() {
    const { C } = this.servers;
    for (const [nsp, room, members] of MEMBERS) {
      for (const name of members) {
        const server = this.servers[name[0]];
        // Another namespace's sockets are joined from afar, and so are those of a number: sockring's API knows the main one and texts.
        if ((nsp !== '/' || typeof room === 'number') && server.kind !== 'node') await C.ask('socketsJoin', { nsp, rooms: [this.id(name)], join: [room] });
        else await server.join(this.id(name), [room], nsp);
      }
      await until(5000, `${members.length} sockets are in ${room} of ${nsp}`, () => C.ask('fetchSockets', { nsp, rooms: [room] }), (answer) => answer.value?.length === members.length);
    }
    const letters = Object.keys(this.servers);
    const users = letters.flatMap((letter) => ['web', 'poll', 'up'].map((kind) => ['/', `user:${kind}-${letter}`, 1]));
    const admins = letters.map((letter) => ['/admin', `user:web-${letter}`, 1]);
    // Messages to the room that looks like a socket id come on the channel of its namespace.
    const rooms = MEMBERS.filter(([, room]) => room !== ROOM_OF_20).map(([nsp, room, members]) => [nsp, room, new Set(members.map((name) => name[0])).size]);
    await heard(this.redis, this.adapter, [...users, ...admins, ['/', 'user:multi', letters.length], ...rooms]);
  }

  id(name) {
    return this.clients[name].socket.id;
  }

  get main() {
    return Object.keys(this.clients).filter((name) => !name.endsWith('.admin')).sort();
  }

  get admin() {
    return Object.keys(this.clients).filter((name) => name.endsWith('.admin')).sort();
  }

  /** Everyone in the main namespace but these. */
  but(...names) {
    return this.main.filter((name) => !names.includes(name));
  }

  of(kind) {
    return Object.keys(this.clients).filter((name) => name.endsWith(`.${kind}`)).sort();
  }

  /** What each client has got with this event name, as a list of argument lists. */
  got(event) {
    return Object.fromEntries(Object.entries(this.clients).map(([name, client]) => [
      name, client.events.seen.filter((one) => one[0] === event).map((one) => one.slice(1)),
    ]));
  }

  /**
   * `rows`: [{event, to: [name], got: [args]}]. Waits until all of them have come, then a little for what must not come,
   * and compares: exactly these clients, exactly once, exactly these values.
   */
  async assertGot(rows, { ms = 10_000, settle = 150 } = {}) {
    const end = Date.now() + ms;
    const complete = () => rows.every(({ event, to }) => {
      const got = this.got(event);
      return to.every((name) => got[name].length >= 1);
    });
    while (!complete() && Date.now() < end) await pause(20);
    await pause(settle);
    const wrong = [];
    for (const { event, to, got: expected } of rows) {
      for (const [name, got] of Object.entries(this.got(event))) {
        const wanted = to.includes(name) ? [expected] : [];
        try {
          assert.deepStrictEqual(got, wanted);
        } catch {
          wrong.push(`${event}: ${name} wants ${brief(wanted)} and got ${brief(got)}`);
        }
      }
    }
    assert.ok(wrong.length === 0, `${wrong.length} differences:\n${wrong.slice(0, 12).join('\n')}`);
  }

  forget() {
    for (const client of Object.values(this.clients)) client.events.seen.length = 0;
  }

  async leave() {
    await Promise.all(Object.values(this.clients).map((client) => client.closed()));
  }
}

/** The tests of a group have a Redis, servers on it and their crowd, which `take` is given before the first of them. */
export function crowded(startRedis, adapter, take) {
  let redis;
  let servers;

  before(async () => {
    redis = await startRedis();
    servers = await startServers(redis, adapter);
    const crowd = await Crowd.gather(servers, redis, adapter);
    crowd.forget();
    take({ redis, servers, crowd });
  });

  after(async () => {
    closeClients();
    if (servers) await stopServers(servers);
    await redis?.stop();
  });
}
