// Clients come back by themselves after the server ends, by accident or on purpose.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { startSockring } from '../lib/program.mjs';
import { emit } from '../lib/api.mjs';
import { Client, closeClients, versions } from '../lib/client.mjs';
import { tokenFor } from '../lib/jwt.mjs';
import { lastingPort } from '../lib/port.mjs';
import { within } from '../lib/wait.mjs';

afterEach(closeClients);

async function comeBack(end) {
  const env = { PORT: String(await lastingPort()) };
  let target = await startSockring(env);
  try {
    const clients = [];
    for (const version of versions) {
      for (const transports of [undefined, ['polling'], ['websocket']]) {
        const user = `restart-${clients.length}`;
        const client = await Client.connected(version, target, { token: tokenFor(user), transports, reconnection: true });
        if (transports === undefined) await client.upgrade();
        clients.push({ user, client });
      }
    }
    await end(target);
    for (const { client } of clients) {
      const reason = await client.disconnect(20000);
      assert.notEqual(reason, 'io server disconnect', `socket.io-client ${client.version}: the reason must let the client reconnect`);
    }
    await target.stop();
    target = await startSockring(env);
    await Promise.all(clients.map(async ({ user, client }) => {
      client.events = dropUntilConnected(client.events);
      await client.connects.next(10000, `socket.io-client ${client.version} connects again; errors: ${client.errors.seen.slice(-2).map(String)}`);
      const welcome = await client.event('connected');
      assert.equal(welcome.userId, user);
      assert.equal(welcome.socketId, client.socket.id);
    }));
    for (const { user, client } of clients) {
      await emit(target, { event: 'after-restart', data: user, user });
      assert.equal(await client.event('after-restart'), user);
    }
  } finally {
    await target.stop();
  }
}

/** What the old server said last (server:shutdown) is not of interest any more. */
function dropUntilConnected(events) {
  const { next } = events;
  events.next = async function skipping(...args) {
    for (;;) {
      const one = await next.apply(events, args);
      if (one[0] !== 'server:shutdown') return one;
    }
  };
  return events;
}

test('every version reconnects by itself after the server was killed and started again on its port', { timeout: 60000 }, () =>
  comeBack((target) => target.signal('SIGKILL')));

test('every version reconnects by itself after SIGTERM: never a Socket.IO DISCONNECT, exit code 0', { timeout: 90000 }, () =>
  comeBack(async (target) => {
    target.signal('SIGTERM');
    const { code, signal } = await within(20000, 'the server ends after SIGTERM (drain is 5 s by default)', target.exited);
    assert.deepEqual({ code, signal }, { code: 0, signal: null }, `exit of a graceful stop; it said:\n${target.said()}`);
  }));

test('SIGTERM tells everyone by server:shutdown with reconnectInMs', { timeout: 60000, skip: process.env.REFERENCE === '1' ? 'the stand-in does not' : false }, async () => {
  const target = await startSockring();
  try {
    const clients = [];
    for (const transports of [['polling'], ['websocket']]) clients.push(await Client.connected('4.8.4', target, { token: tokenFor('u'), transports, reconnection: false }));
    target.signal('SIGTERM');
    for (const client of clients) {
      const data = await client.event('server:shutdown');
      assert.equal(typeof data.reconnectInMs, 'number', JSON.stringify(data));
    }
    target.signal('SIGTERM');
    await within(3000, 'a second SIGTERM ends the server at once', target.exited);
  } finally {
    await target.stop();
  }
});
