// A planned restart with a state file: nobody misses anything, whoever emits meanwhile, and nothing comes twice.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, test } from 'node:test';
import { call, emit, stats } from '../lib/api.mjs';
import { Client, closeClients } from '../lib/client.mjs';
import { tokenFor } from '../lib/jwt.mjs';
import { lastingPort } from '../lib/port.mjs';
import { startSockring } from '../lib/program.mjs';
import { pause, until } from '../lib/wait.mjs';

const VERSIONS = ['4.8.4', '4.7.4'];
const WAYS = [['websocket'], ['polling'], undefined];
const CLIENTS = 30;
const RESTARTS = 2;

afterEach(closeClients);

test('two restarts while 30 clients are emitted to: none of their events is lost, doubled or out of order', { timeout: 60000 }, async () => {
  const directory = await mkdtemp(path.join(tmpdir(), 'sockring-state-'));
  const env = { PORT: String(await lastingPort()), SOCKRING_SHARDS: '2', SOCKRING_DRAIN: '1', SOCKRING_STATE_FILE: path.join(directory, 'state') };
  let target = await startSockring(env);
  const clients = [];
  let emits = true;
  // One event after the other for each user, every third one kept; what got no answer is said again under its key.
  const emitter = async (number) => {
    while (emits) {
      const value = (clients[number].sent += 1);
      const body = { event: 'n', data: value, user: `u${number}`, idempotencyKey: `${number}/${value}`, ...(value % 3 === 0 ? { ttl: 60 } : {}) };
      for (;;) {
        const answer = await call(target, 'POST', '/emit', body).catch(() => undefined);
        if (answer?.status === 200) break;
        await pause(20);
      }
    }
  };
  try {
    for (let number = 0; number < CLIENTS; number += 1) {
      const client = await Client.connected(VERSIONS[number % 2], target, { token: tokenFor(`u${number}`), transports: WAYS[number % 3], reconnection: true });
      const got = [];
      client.socket.on('n', (value) => got.push(value));
      clients.push({ client, got, sent: 0, recovered: 0 });
      client.socket.on('connect', () => { clients[number].recovered += client.socket.recovered ? 1 : 0; });
    }
    const emitters = clients.map((_, number) => emitter(number));
    for (let restart = 0; restart < RESTARTS; restart += 1) {
      await pause(1000);
      target.signal('SIGTERM');
      const { code } = await target.exited;
      assert.equal(code, 0, target.said());
      target = await startSockring(env);
      await until(15000, 'all are back', () => clients.filter(({ client }) => !client.socket.connected).length, (away) => away === 0);
    }
    await pause(500);
    emits = false;
    await Promise.all(emitters);
    await until(10000, 'all have got all', () => clients.every(({ got, sent }) => got.at(-1) === sent)).catch(() => {});
    for (const [number, { client, got, sent, recovered }] of clients.entries()) {
      assert.deepEqual(got, Array.from({ length: sent }, (_, at) => at + 1), `${client.version} over ${WAYS[number % 3]}`);
      assert.ok(recovered >= RESTARTS, `${client.version} was recovered ${recovered} times`);
    }
  } finally {
    emits = false;
    await target.stop();
    await rm(directory, { recursive: true });
  }
});

/** Of a process that was killed the kernel gives the port back a moment after its end. */
async function startAgain(env) {
  const started = await until(5000, 'the port is free again', () => startSockring(env).catch((error) => error), (got) => !/in use/.test(got.message));
  if (started instanceof Error) throw started;
  return started;
}

/** A client misses an event without a ttl and one with it while the server ends; gives what it has got when it is back. */
async function missedOver(end) {
  const env = { PORT: String(await lastingPort()), SOCKRING_DRAIN: '0' };
  let target = await startSockring(env);
  try {
    const client = await Client.connected('4.8.4', target, { token: tokenFor('u'), transports: ['websocket'], reconnection: true });
    const got = [];
    client.socket.on('n', (value) => got.push(value));
    client.socket.disconnect();
    await until(5000, 'it is gone', async () => (await stats(target)).connected, (connected) => connected === 0);
    await emit(target, { event: 'n', data: 1, user: 'u' });
    assert.equal((await emit(target, { event: 'n', data: 2, user: 'u', ttl: 60 })).kept, 'memory');
    target.signal(end);
    await target.exited;
    target = await startAgain(env);
    client.socket.connect();
    await client.connects.next(10000, 'it is back');
    await emit(target, { event: 'n', data: 3, user: 'u' });
    await until(5000, 'it gets what is new', () => got.includes(3));
    return { got, recovered: client.socket.recovered };
  } finally {
    await target.stop();
  }
}

test('without a state file a restart forgets what was missed and what was kept', { timeout: 30000 }, async () => {
  assert.deepEqual(await missedOver('SIGTERM'), { got: [3], recovered: false });
});

test('a server that is killed forgets what was missed and what was kept', { timeout: 30000 }, async () => {
  assert.deepEqual(await missedOver('SIGKILL'), { got: [3], recovered: false });
});

for (const version of ['4.8.4', '3.0.0']) {
  test(`${version}: an event without a ttl is not for who comes later, as a page that was loaded anew`, { timeout: 30000 }, async () => {
    const target = await startSockring();
    try {
      const page = await Client.connected(version, target, { token: tokenFor('u'), transports: ['websocket'] });
      page.socket.disconnect();
      await until(5000, 'it is gone', async () => (await stats(target)).connected, (connected) => connected === 0);
      assert.equal((await emit(target, { event: 'n', data: 1, user: 'u' })).delivered, 0);
      const next = await Client.connected(version, target, { token: tokenFor('u'), transports: ['websocket'] });
      await emit(target, { event: 'n', data: 2, user: 'u' });
      assert.equal(await next.event('n'), 2);
    } finally {
      closeClients();
      await target.stop();
    }
  });
}
