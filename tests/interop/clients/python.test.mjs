// python-socketio 5.x, by WebSocket, by polling and with the upgrade between them.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import path from 'node:path';
import { before } from 'node:test';
import { isMarker } from '../lib/marker.mjs';
import { packageRoot, startSockring } from '../lib/program.mjs';
import { assertEmpty, emit } from '../lib/api.mjs';
import { now, sign, tokenFor } from '../lib/jwt.mjs';
import { assertShape, shapes } from '../lib/payloads.mjs';
import { needPython, python } from '../lib/python.mjs';
import { suite } from '../lib/suite.mjs';
import { Queue, within } from '../lib/wait.mjs';

const here = path.join(packageRoot, 'clients/python');

// The client may leave without a word (its process ends first), so the heartbeat must find it out soon.
const row = suite(() => startSockring({ SOCKRING_PING_INTERVAL_MS: '1000', SOCKRING_PING_TIMEOUT_MS: '1000' }), { timeout: 30000 });

before(() => needPython(['socketio', 'requests', 'websocket'], path.join(here, 'requirements.txt')), { timeout: 300000 });

/** One run of client.py; its lines wait in order. */
function start(target, transports, auth, headers = {}) {
  const child = spawn(python, [path.join(here, 'client.py'), target.url, transports, JSON.stringify(auth), JSON.stringify(headers)], { stdio: ['ignore', 'pipe', 'pipe'] });
  const lines = new Queue();
  let errors = '';
  child.stderr.on('data', (part) => (errors += part));
  createInterface({ input: child.stdout }).on('line', (line) => lines.push(JSON.parse(line)));
  const exited = new Promise((resolve) => child.on('exit', (code) => {
    resolve(code);
    lines.end(new Error(`client.py ended with ${code}: ${errors}`));
  }));
  return {
    exited,
    kill: () => child.kill('SIGKILL'),
    /** The next line; a marker's place among them is the client's threads' affair. */
    async line(name) {
      let got, rest;
      do {
        [got, ...rest] = await lines.next(10000, () => `python-socketio says ${name}; so far: ${JSON.stringify(lines.seen)} ${errors}`);
      } while (got === 'event' && isMarker(rest[0]));
      assert.equal(got, name, `python-socketio: ${JSON.stringify(rest)} ${errors}`);
      return rest;
    },
    async event(name) {
      const [got, ...args] = await this.line('event');
      assert.equal(got, name, JSON.stringify(args));
      return args[0];
    },
  };
}

for (const [transports, last] of [['websocket', 'websocket'], ['polling', 'polling'], ['polling,websocket', 'websocket']]) {
  for (const way of ['auth', 'header']) {
    row(`python-socketio by ${transports}, token by ${way}`, async (target) => {
      const user = `python-${transports}-${way}`;
      const token = tokenFor(user);
      const client = way === 'auth' ? start(target, transports, { token }) : start(target, transports, {}, { Authorization: `Bearer ${token}` });
      try {
        const [sid, transport] = await client.line('connect');
        assert.equal(transport, last);
        assertShape(await client.event('connected'), shapes.connected(user, sid), 'connected');
        await emit(target, { event: 'analysis:started', data: { interviewId: 'i', message: 'Video analysis has started', status: 'processing' }, user });
        assertShape(await client.event('analysis:started'), shapes.started('i'), 'analysis:started');
        await emit(target, { event: 'please:emit', data: 1, user });
        await client.event('please:emit');
        await client.line('emitted');
        assert.equal((await emit(target, { event: 'stolen', data: 1, room: 'secret' })).delivered, 0);
        await emit(target, { event: 'please:end', data: 1, user });
        await client.event('please:end');
        assert.equal(await within(10000, 'client.py ends', client.exited), 0);
      } finally {
        client.kill();
      }
      await assertEmpty(target, 'after python-socketio has left');
    });
  }
}

for (const transports of ['websocket', 'polling']) {
  for (const [words, auth, message] of [
    ['missing', {}, 'Authentication token required'],
    ['expired', { token: sign({ _id: 'u', exp: now() - 10 }) }, 'Authentication failed'],
  ]) {
    row(`python-socketio by ${transports}: token ${words} is refused in words`, async (target) => {
      const client = start(target, transports, auth);
      try {
        const [error] = await client.line('connect_error');
        assert.equal(error.message ?? error, message);
        await within(10000, 'client.py ends', client.exited);
      } finally {
        client.kill();
      }
      await assertEmpty(target, 'after the refusal');
    });
  }
}
