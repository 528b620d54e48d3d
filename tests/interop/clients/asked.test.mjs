// What stock clients say to emits that ask them: they call back, late, twice, or not at all; they go away and come back.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { api, emit } from '../lib/api.mjs';
import { Client, closeClients } from '../lib/client.mjs';
import { startNode } from '../lib/cluster.mjs';
import { startWay } from '../lib/cut.mjs';
import { tokenFor } from '../lib/jwt.mjs';
import { startSockring } from '../lib/program.mjs';

const WAYS = [['websocket'], ['polling'], ['polling', 'websocket']];
const LONG = { timeoutMs: 20000 };

let count = 0;
const newUser = () => `asked-${(count += 1)}`;

afterEach(closeClients);

for (const shards of ['1', '4']) {
  describe(`${shards} shards`, () => {
    let target;
    before(async () => {
      target = await startSockring({ SOCKRING_SHARDS: shards });
    });
    after(() => target.stop());

    for (const [version, transports] of shards === '1' ? [['4.8.4', WAYS[2]]] : ['4.8.4', '3.0.0'].flatMap((version) => WAYS.map((way) => [version, way]))) {
      test(`${version} over ${transports}: who calls back, in time or later, is counted once, with what it says`, { timeout: 30000 }, async () => {
        const user = newUser();
        const clients = await Promise.all([1, 2, 3].map(() => Client.connected(version, target, { token: tokenFor(user), transports })));
        const [prompt, late, quiet] = clients;
        prompt.socket.on('question', (data, answer) => {
          answer({ got: data.number }, 'more');
          answer('again');
        });
        late.socket.on('question', (_, answer) => setTimeout(() => answer('late'), 150));
        quiet.socket.on('question', (_, answer) => answer());
        const [answer, received] = await Promise.all([
          emit(target, { user, event: 'question', data: { number: 7 }, ack: { ...LONG, responses: true } }),
          emit(target, { user, event: 'news', receipt: LONG }),
        ]);
        assert.deepEqual([answer.delivered, answer.acked, answer.timedOut], [3, 3, 0]);
        assert.deepEqual(new Set(answer.responses.map((response) => JSON.stringify(response))), new Set(['{"got":7}', '"late"', 'null']));
        assert.deepEqual([received.delivered, received.received], [3, 3], 'a receipt needs no callback');
        for (const client of clients) assert.equal(client.events.seen.filter(([name]) => name === 'question').length, 1);
      });
    }

    test('who does not call back, or goes away for good, is not counted', { timeout: 30000 }, async () => {
      const user = newUser();
      const [prompt, silent, leaving] = await Promise.all([1, 2, 3].map(() => Client.connected('4.8.4', target, { token: tokenFor(user) })));
      prompt.socket.on('question', (_, answer) => answer(1));
      silent.socket.on('question', () => {});
      leaving.socket.on('question', () => leaving.close());
      const answer = await emit(target, { user, event: 'question', data: 1, ack: { timeoutMs: 1500, responses: true } });
      assert.deepEqual([answer.delivered, answer.acked, answer.timedOut, answer.responses], [3, 1, 2, [1]]);
    });

    test('each emit of a batch is answered, of several users and of a room', { timeout: 30000 }, async () => {
      const users = [newUser(), newUser(), newUser()];
      for (const user of users) {
        const client = await Client.connected('4.8.4', target, { token: tokenFor(user) });
        client.socket.on('question', (_, answer) => setTimeout(() => answer(user), 300));
        await api(target, 'POST', '/rooms/join', { user, room: `room-${shards}` });
      }
      const ask = (to) => ({ ...to, event: 'question', data: 1, ack: { ...LONG, responses: true } });
      const answers = await api(target, 'POST', '/emit/batch', [...users.map((user) => ask({ user })), ask({ room: `room-${shards}` }), ask({ users })]);
      assert.deepEqual(answers.map(({ acked }) => acked), [1, 1, 1, 3, 3]);
      assert.deepEqual(answers.slice(0, 3).map(({ responses }) => responses), users.map((user) => [user]));
      assert.deepEqual([...answers[4].responses].sort(), users);
    });
  });
}

/** Asks a user whose client gets the question, loses its connection, comes back and calls back then. */
async function callsBackWhenItIsBack({ target, transports, ask }) {
  const way = await startWay(target);
  try {
    const user = newUser();
    const client = await Client.connected('4.8.4', way, { token: tokenFor(user), transports });
    // Node gives a position with the first event only.
    await ask.before?.(user, client);
    let call;
    const asked = new Promise((resolve) => client.socket.on('question', (_, answer) => { call = answer; resolve(); }));
    const answer = ask.now(user);
    await asked;
    way.close();
    await client.disconnect();
    way.open();
    await client.connects.next(10000, 'it comes back');
    assert.equal(client.socket.recovered, true);
    call('back');
    return await answer;
  } finally {
    closeClients();
    await way.stop();
  }
}

for (const transports of WAYS.slice(0, 2)) {
  test(`over ${transports}: a callback counts that comes after its client has come back`, { timeout: 30000 }, async () => {
    const target = await startSockring({ SOCKRING_SHARDS: '4' });
    try {
      const now = (user) => emit(target, { user, event: 'question', data: 1, ack: { ...LONG, responses: true } });
      const answer = await callsBackWhenItIsBack({ target, transports, ask: { now } });
      assert.deepEqual([answer.acked, answer.timedOut, answer.responses], [1, 0, ['back']]);
    } finally {
      await target.stop();
    }
  });
}

test('Node passes over it: its emitWithAck times out, whoever comes back', { timeout: 30000 }, async () => {
  const node = await startNode(undefined, { adapter: 'none', env: { RECOVERY_MS: '60000' } });
  try {
    const to = (user) => ({ rooms: [`user:${user}`] });
    const before = async (user, client) => {
      const came = new Promise((resolve) => client.socket.once('first', resolve));
      await node.ask('emit', { ...to(user), args: ['first', 1] });
      await came;
    };
    const now = (user) => node.ask('emitWithAck', { ...to(user), flags: { timeout: 1500 }, args: ['question', 1] });
    const answer = await callsBackWhenItIsBack({ target: node, transports: ['websocket'], ask: { before, now } });
    assert.match(answer.error, /timed out/);
    assert.deepEqual(answer.responses, []);
  } finally {
    await node.stop();
  }
});
