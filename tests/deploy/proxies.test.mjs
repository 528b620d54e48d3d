// The proxies' files of deploy/, in front of two instances: only ports and folders are others.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, it } from 'node:test';
import { io } from 'socket.io-client';
import { SECRET, freePort, mint, startServer } from '../browser/support/server.js';

const DEPLOY = new URL('../../deploy/', import.meta.url);
const SETTINGS = { ACCESS_TOKEN_SECRET: SECRET, SOCKRING_TRUSTED_PROXIES: '127.0.0.1/32', SOCKRING_DRAIN: '1' };
// What the files know the instances by.
const NAMES = ['AAA', 'BBB'];
const CLIENTS = 20;
const PATIENCE_MS = 20_000;
let users = 0;

let instances;
let folder;

before(async () => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'sockring-deploy-'));
  instances = await Promise.all(NAMES.map(startInstance));
});
after(async () => {
  await Promise.all((instances ?? []).map((instance) => instance.stop()));
  rmSync(folder, { recursive: true, force: true });
});

function startInstance(name) {
  return startServer({ ...SETTINGS, SOCKRING_INSTANCE: name });
}

// The file with this test's ports in place of its own.
function withPorts(name, ...ports) {
  return [...ports, ...instances.map((instance, index) => [`127.0.0.1:808${index}`, `127.0.0.1:${instance.port}`])]
    .reduce((text, [from, to]) => {
      assert.ok(text.includes(from), `${name} has ${from}`);
      return text.replaceAll(from, to);
    }, readFileSync(new URL(name, DEPLOY), 'utf8'));
}

async function start(test, program, args, port) {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => { output += text; });
  const ended = once(child, 'close');
  test.after(() => {
    child.kill('SIGTERM');
    return ended;
  });
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    assert.equal(child.exitCode, null, output);
    if (await fetch(`http://127.0.0.1:${port}/`).then((answer) => answer.status === 404, () => false)) return;
    assert.ok(Date.now() < deadline, output);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const PROXIES = {
  async nginx(test, port) {
    const file = path.join(folder, 'nginx.conf');
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${folder}/${kind};`);
    writeFileSync(file, `daemon off; worker_processes 1; pid ${folder}/nginx.pid; error_log stderr; events {}\n`
      + `http { access_log off; ${temporary.join(' ')}\n${withPorts('nginx.conf', ['listen 80;', `listen 127.0.0.1:${port};`])}\n}\n`);
    await start(test, 'nginx', ['-p', folder, '-e', 'stderr', '-c', file], port);
  },
  async haproxy(test, port) {
    const file = path.join(folder, 'haproxy.cfg');
    writeFileSync(file, withPorts('haproxy.cfg', ['bind :80', `bind 127.0.0.1:${port}`]));
    await start(test, 'haproxy', ['-db', '-f', file], port);
  },
};

// Stock clients. Their users are nobody else's: of those of a test before, some are still there, since their proxy ended
// before their last poll came through.
function clients(test, port, transports) {
  const names = Array.from({ length: CLIENTS }, () => `user-${users++}`);
  const sockets = names.map((user) => io(`http://127.0.0.1:${port}`, {
    auth: { token: mint(user) }, transports, forceNew: true, reconnectionDelay: 100, reconnectionDelayMax: 500,
  }));
  test.after(() => sockets.forEach((socket) => socket.disconnect()));
  return { names, sockets };
}

async function isConnected(instance, user) {
  const answer = await fetch(`${instance.origin}/api/v1/websocket/user/${user}/status`);
  return (await answer.json()).data.connected;
}

for (const [name, prepare] of Object.entries(PROXIES)) {
  for (const transports of [['websocket'], ['polling', 'websocket'], ['polling']]) {
    it(`${name}: ${CLIENTS} clients by ${transports.join(', then ')}`, async (t) => {
      const port = await freePort();
      await prepare(t, port);
      const { names, sockets } = clients(t, port, transports);
      const errors = [];
      for (const socket of sockets) socket.on('connect_error', (error) => errors.push(error.message));
      await Promise.all(sockets.map((socket) => once(socket, 'connect')));
      if (transports.includes('websocket')) {
        await Promise.all(sockets.map(({ io: { engine } }) => (
          engine.transport.name === 'websocket' ? undefined : once(engine, 'upgrade')
        )));
      }
      assert.deepEqual(errors, []);

      // Each instance emits to those of its own; together they have all.
      const heard = Promise.all(sockets.map((socket) => once(socket, 'report:updated')));
      let delivered = 0;
      for (const instance of instances) {
        const answer = await instance.post('/emit', { users: names, event: 'report:updated', data: {} });
        assert.ok(answer.delivered > 0, 'each instance has some');
        delivered += answer.delivered;
      }
      assert.equal(delivered, CLIENTS);
      await heard;

      // The API is not for everybody.
      const inside = await fetch(`http://127.0.0.1:${port}/api/v1/websocket/stats`);
      assert.equal(inside.status, 404);
    });
  }

  it(`${name}: an instance that goes takes no client with it`, async (t) => {
    const port = await freePort();
    await prepare(t, port);
    const { names, sockets } = clients(t, port, ['websocket', 'polling']);
    await Promise.all(sockets.map((socket) => once(socket, 'connect')));
    const [, second] = instances;
    await second.stop();
    const deadline = Date.now() + PATIENCE_MS;
    while ((await Promise.all(names.map((user) => isConnected(instances[0], user)))).includes(false)) {
      assert.ok(Date.now() < deadline, 'all clients are at the instance that stays');
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    instances[1] = await startInstance(NAMES[1]);
  });
}
