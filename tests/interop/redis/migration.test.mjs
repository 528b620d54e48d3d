// The steps of docs/migrating.md: clients move from a Node server to sockring and back, and Node's code emits as before.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { afterEach, test } from 'node:test';
import { api } from '../lib/api.mjs';
import { closeClients } from '../lib/client.mjs';
import { assembled, connect, peersAreNode, startNode, startPeer } from '../lib/cluster.mjs';
import { RedisServer } from '../lib/redis.mjs';
import { until } from '../lib/wait.mjs';

const CLIENTS = 12;
const PATIENCE_MS = 10000;
afterEach(closeClients);

/** What stands before the servers: new connections lead to `to`. */
class Road {
  #connections = new Set();

  static async open() {
    const road = new Road();
    road.server = net.createServer({ noDelay: true }, (near) => {
      const far = net.connect({ host: '127.0.0.1', port: road.to.port, noDelay: true });
      for (const [from, other] of [[near, far], [far, near]]) {
        road.#connections.add(from);
        from.on('error', () => {});
        from.on('close', () => {
          road.#connections.delete(from);
          other.destroySoon();
        });
        from.pipe(other);
      }
    });
    road.server.listen(0, '127.0.0.1');
    await once(road.server, 'listening');
    road.url = `http://127.0.0.1:${road.server.address().port}`;
    return road;
  }

  close() {
    this.server.close();
    for (const connection of this.#connections) connection.destroy();
  }
}

test('clients move from Node to sockring and back, and hear Node all the time', { timeout: 60000, skip: peersAreNode }, async (t) => {
  const redis = await RedisServer.start();
  const running = new Set();
  const begin = async (server) => {
    running.add(await server);
    return server;
  };
  const road = await Road.open();
  t.after(async () => {
    closeClients();
    road.close();
    for (const server of running) await server.stop();
    await redis.stop();
  });

  // 1. As it was: clients at a Node server.
  let node = await begin(startNode(redis, { name: 'before' }));
  road.to = node;
  const choices = [['websocket'], undefined, ['polling']];
  const users = Array.from({ length: CLIENTS }, (_, index) => `user ${index}`);
  const clients = await Promise.all(users.map((user, index) => (
    connect(road, user, { transports: choices[index % choices.length], reconnectionDelayMax: 100 })
  )));
  let told = 0;
  // Every client gets the next number from Node's own code, and nothing else but its greetings.
  const everybodyHears = async (from) => {
    told += 1;
    await from.ask('emits', users.map((user) => ({ rooms: [`user:${user}`], args: ['news', told] })));
    for (const client of clients) {
      let event;
      do event = await client.events.next(PATIENCE_MS, () => `${client.transport}: number ${told}`);
      while (event[0] === 'connected' || event[0] === 'server:shutdown');
      assert.deepEqual(event, ['news', told]);
    }
  };
  await everybodyHears(node);

  // 2. A sockring beside it, and new connections lead there: those of clients that poll are new ones sooner or later.
  const sockring = await begin(startPeer(redis, { env: { SOCKRING_DRAIN: '1' } }));
  await assembled(node, 2);
  road.to = sockring;

  // 3. Node lets its clients go. Its code emits as before.
  await node.ask('closeConnections');
  const allAt = (server, sockets) => until(PATIENCE_MS, `all clients are at ${server.name}`, sockets, (count) => count === CLIENTS);
  const atSockring = () => api(sockring, 'GET', '/stats').then((stats) => stats.users);
  await allAt(sockring, atSockring);
  await until(PATIENCE_MS, 'all clients know', () => clients.every(({ socket }) => socket.connected), Boolean);
  await everybodyHears(node);
  const found = (await node.ask('fetchSockets')).value;
  assert.deepEqual(new Set(found.flatMap((socket) => socket.rooms).filter((room) => room.startsWith('user:'))), new Set(users.map((user) => `user:${user}`)));

  // 4. A deploy of Node: no client notices.
  const disconnects = () => clients.map((client) => client.disconnects.seen.length);
  const before = disconnects();
  running.delete(node);
  await node.stop();
  node = await begin(startNode(redis, { name: 'after' }));
  await assembled(node, 2);
  await everybodyHears(node);
  assert.deepEqual(disconnects(), before);

  // 5. And back.
  road.to = node;
  sockring.signal('SIGTERM');
  await sockring.exited;
  const atNode = async () => {
    const sockets = (await node.ask('fetchSockets', { flags: { local: true } })).value;
    return new Set(sockets.map((socket) => socket.data.userId)).size;
  };
  await allAt(node, atNode);
  await until(PATIENCE_MS, 'all clients know', () => clients.every(({ socket }) => socket.connected), Boolean);
  await everybodyHears(node);
});
