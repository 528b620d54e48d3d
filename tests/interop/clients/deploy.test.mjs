// A single instance is replaced by the next one: how many attempts its clients need, with the options of the guide.
//
// CLIENTS=300 DRAIN_S=5 START_S=6 node --test clients/deploy.test.mjs: with another number, other times.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { load } from '../lib/client.mjs';
import { tokenFor } from '../lib/jwt.mjs';
import { lastingPort } from '../lib/port.mjs';
import { notOfReference, startSockring } from '../lib/program.mjs';
import { pause, until, within } from '../lib/wait.mjs';

const clients = Number(process.env.CLIENTS ?? 300);
/** What the server has by itself where it is not set. */
const drainS = process.env.DRAIN_S;
/** From the end of one process to the start of the next. */
const startS = Number(process.env.START_S ?? 0);
/** The guide's client gives up behind the fifth, which comes 12.5 s after its first one failed at the earliest. */
const ATTEMPTS = 5;
const GUIDE = { reconnectionAttempts: ATTEMPTS, reconnectionDelay: 1000, reconnectionDelayMax: 5000, timeout: 20000 };
/** The fourth attempt comes 7.5 s after the end of a connection at the earliest: until then the next process has to listen. */
const FOURTH_S = 7.5;

test('a single instance restarts, and each client is back before its last attempt', { timeout: 120000, ...notOfReference }, async (t) => {
  const port = String(await lastingPort());
  const env = { PORT: port, ...(drainS === undefined ? {} : { SOCKRING_DRAIN: drainS }) };
  let server = await startSockring(env);
  const io = await load('4.8.4');
  const crowd = Array.from({ length: clients }, (_, number) => {
    const transports = [['websocket', 'polling'], ['websocket'], ['polling']][number % 3];
    const socket = io(server.url, { forceNew: true, auth: { token: tokenFor(`deploy-${number}`) }, transports, ...GUIDE });
    const one = { socket, attempts: 0, back: 0, isLost: false };
    socket.on('connect', () => (one.back += 1));
    socket.io.on('reconnect_attempt', (attempt) => (one.attempts = Math.max(one.attempts, attempt)));
    socket.io.on('reconnect_failed', () => (one.isLost = true));
    return one;
  });
  t.after(async () => {
    for (const { socket } of crowd) socket.disconnect();
    await server.stop();
  });
  const wait = (times) => until(60000, 'all are connected, or have given up', () => crowd.filter(({ back, isLost }) => back < times && !isLost).length, (missing) => missing === 0);
  await wait(1);
  const begun = performance.now();
  server.signal('SIGTERM');
  await within(60000, 'it ends', server.exited);
  const ended = (performance.now() - begun) / 1000;
  if (drainS === undefined) assert.ok(ended < FOURTH_S, `a default drain of ${ended} s leaves the next process no time`);
  await server.stop();
  await pause(startS * 1000);
  server = await startSockring(env);
  const away = (performance.now() - begun) / 1000;
  await wait(2);
  const by = Array.from({ length: ATTEMPTS }, (_, attempt) => crowd.filter(({ attempts, isLost }) => attempts === attempt + 1 && !isLost).length);
  const lost = crowd.filter(({ isLost }) => isLost).length;
  t.diagnostic(`${clients} clients, ${away.toFixed(1)} s from the signal to the next one: back at attempt 1 to ${ATTEMPTS}: ${by.join(', ')}; lost: ${lost}`);
  assert.equal(lost, 0, 'clients have given up');
  if (away < FOURTH_S) assert.equal(by[ATTEMPTS - 1], 0, 'clients have needed their last attempt');
});
