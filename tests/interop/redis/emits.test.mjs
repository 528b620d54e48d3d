// Every kind of emit from every place reaches exactly the right clients, once, with exactly the right values.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Emitter } from '@socket.io/redis-emitter';
import { createClient } from 'redis';
import { api } from '../lib/api.mjs';
import { adapters, emitBody } from '../lib/cluster.mjs';
import { crowded } from '../lib/crowd.mjs';
import { byEmitter, emitAll, emitRows, inJson } from '../lib/emits.mjs';
import { RedisServer } from '../lib/redis.mjs';
import { until } from '../lib/wait.mjs';

for (const adapter of adapters) {
  // Of an ArrayBuffer the msgpack of Node's streams adapter makes an object without anything in it.
  const canBeSaid = ({ name }) => adapter !== 'streams' || name !== 'typed arrays';

  describe(`emits, ${adapter} adapter`, { timeout: 60000 }, () => {
    let redis;
    let servers;
    let crowd;

    crowded(() => RedisServer.start(), adapter, (all) => ({ redis, servers, crowd } = all));

    for (const letter of ['A', 'B', 'C', 'D']) {
      test(`from ${letter}`, async () => {
        const server = servers[letter];
        const list = emitRows(crowd).filter(server.kind === 'node' ? canBeSaid : inJson);
        await emitAll(crowd, letter, list, (row) => server.emit(row));
      });
    }

    test('from a batch of the API of A', async (t) => {
      const { A } = servers;
      if (A.kind === 'node') return t.skip('Node has no such API');
      const bodies = [];
      const list = emitRows(crowd).filter(inJson).filter((row) => row.name !== 'long');
      let sent = list.length;
      await emitAll(crowd, 'batch', list, async (row) => {
        bodies.push(emitBody(row));
        sent -= 1;
        if (sent === 0) await api(A, 'POST', '/emit/batch', bodies.splice(0));
      });
    });

    test('from redis-emitter', { skip: adapter !== 'classic' && 'it is for the classic adapter' }, async () => {
      const client = createClient({ url: redis.url });
      await client.connect();
      try {
        const emitter = new Emitter(client);
        await emitAll(crowd, 'emitter', emitRows(crowd), (row) => byEmitter(emitter, row));
      } finally {
        client.destroy();
      }
    });

    test('from a socket of Node: to all but itself, to a room but itself', async () => {
      const { C } = servers;
      await C.ask('fromSocket', { id: crowd.id('C.web'), args: ['socket.broadcast', 1] });
      await C.ask('fromSocket', { id: crowd.id('C.web'), rooms: ['r1'], args: ['socket.to', Buffer.from([1])] });
      await crowd.assertGot([
        { event: 'socket.broadcast', to: crowd.but('C.web'), got: [1] },
        { event: 'socket.to', to: ['A.web', 'B.poll', 'D.poll'], got: [Buffer.from([1])] },
      ]);
    });

    test('what is local to a Node server stays there', async () => {
      await servers.C.emit({ flags: { local: true }, args: ['local', 1] });
      await crowd.assertGot([{ event: 'local', to: crowd.main.filter((name) => name.startsWith('C.')), got: [1] }]);
    });

    test('a burst to one room comes in its order', async () => {
      const count = 300;
      for (const letter of ['A', 'C']) {
        const server = servers[letter];
        const specs = Array.from({ length: count }, (_, number) => ({ rooms: ['r1'], args: [`burst of ${letter}`, number] }));
        if (server.kind === 'node') await server.ask('emits', specs);
        else await api(server, 'POST', '/emit/batch', specs.map(emitBody));
        for (const name of ['A.web', 'B.poll', 'C.web', 'D.poll']) {
          await until(5000, `${name} has the burst of ${letter}`, () => crowd.got(`burst of ${letter}`)[name].length, (length) => length >= count);
          assert.deepEqual(crowd.got(`burst of ${letter}`)[name].flat(), specs.map((spec) => spec.args[1]), `${name}, burst of ${letter}`);
        }
      }
    });

    test('no Node server has complained', async () => {
      for (const server of Object.values(servers)) assert.deepEqual(await server.complaints(), [], server.name);
    });
  });
}
