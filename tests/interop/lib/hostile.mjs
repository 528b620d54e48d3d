// The frame of an attack: a server with short deadlines, and the proof that nobody else was harmed and nothing is left.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { startSockring } from './program.mjs';
import { assertEmpty, emit } from './api.mjs';
import { closeAll, WsClient } from './engine.mjs';
import { RawWs } from './rawws.mjs';
import { tokenFor } from './jwt.mjs';
import { suite } from './suite.mjs';
import { until } from './wait.mjs';

export const deadlines = {
  SOCKRING_PING_INTERVAL_MS: '1000',
  SOCKRING_PING_TIMEOUT_MS: '1000',
  SOCKRING_CONNECT_TIMEOUT_MS: '1500',
  SOCKRING_UPGRADE_TIMEOUT_MS: '1000',
  SOCKRING_IDLE_TIMEOUT_MS: '3000',
};

/** Gives `attack(name, body, options)`. After each body a new client must be served and `connected` be 0 again. */
export function attacks(env = {}, options = {}) {
  const row = suite(() => startSockring({ ...deadlines, ...env }), { timeout: 60000, ...options });
  return (name, body, more) => row(name, (target) => endure(target, name, body, more), more);
}

/** The same for attacks that wait: each on a server of its own, all at the same time. */
export function attacksAtOnce(what, env, options, rows) {
  describe(what, { concurrency: true }, () => {
    for (const { name, body, empty } of rows) {
      test(name, { timeout: 60000, ...options }, async () => {
        const target = await startSockring({ ...deadlines, ...env });
        try {
          await endure(target, name, body, { empty });
          target.assertAlive();
        } finally {
          closeAll(target);
          await target.stop();
        }
      });
    }
  });
}

async function endure(target, name, body, { empty = 10000 } = {}) {
  const files = openFiles(target);
  await body(target);
  await assertServes(target, `after: ${name}`);
  closeAll(target);
  await assertEmpty(target, `after: ${name}`, empty);
  await until(5000, `after: ${name}: open files back near ${files}`, () => openFiles(target), (now) => now <= files + 12);
}

/** A new client connects and gets an event. */
export async function assertServes(target, what) {
  const client = await member(target, 'bystander');
  await emit(target, { event: 'still', data: 'served', user: 'bystander' });
  const event = await client.nextMessage(`${what}: another client gets its event`);
  assert.ok(event.startsWith('42["still","served"'), `${what}: got ${event}`);
  client.terminate();
}

/** An authenticated client over `ws`, its `connected` event taken. */
export async function member(target, user) {
  const client = await WsClient.session(target);
  client.send(`40{"token":"${tokenFor(user)}"}`);
  const answer = await client.nextMessage('the CONNECT answer');
  assert.ok(answer.startsWith('40{"sid"'), `CONNECT answer, got ${answer}`);
  assert.ok((await client.nextMessage('the connected event')).startsWith('42["connected",'));
  return client;
}

/** The same in exact frames. */
export const rawMember = (target, user) => RawWs.connected(target, `{"token":"${tokenFor(user)}"}`);

/** Proves that what was sent before was handled and that the client is still there. */
export async function assertStays(target, client, user, what) {
  await emit(target, { event: 'barrier', data: what, user });
  const event = await client.nextMessage(`${what}: the client stays and gets its event`);
  assert.ok(event.startsWith('42["barrier",'), `${what}: got ${event}`);
}

export function openFiles(target) {
  return target.pid ? readdirSync(`/proc/${target.pid}/fd`).length : 0;
}

/** Resident memory of the server in MiB. */
export function residentMiB(target) {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${target.pid}/status`, 'utf8'))[1]) / 1024;
}

/** Runs `body` and fails when the server has grown by more than `limit` MiB meanwhile. */
export async function withinMemory(target, limit, what, body) {
  const before = residentMiB(target);
  let most = before;
  const watch = setInterval(() => {
    try {
      most = Math.max(most, residentMiB(target));
    } catch {
      // The server has ended: the test says so by itself.
    }
  }, 10);
  try {
    await body();
  } finally {
    clearInterval(watch);
  }
  most = Math.max(most, residentMiB(target));
  assert.ok(most - before <= limit, `${what}: memory grew by ${(most - before).toFixed(1)} MiB, ${limit} allowed`);
}
