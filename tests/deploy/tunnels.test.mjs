// The nginx block of the integration guide, as it stands there, in front of two and three instances with Redis: stock clients by
// any order of transports, whose requests come to whichever instance nginx takes.
//
//   CLIENTS=100 MINUTES=5 node --test tunnels.test.mjs     the long version: as many clients of each kind, held for so long
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { io } from 'socket.io-client';
import { SECRET, freePort, mint, startServer } from '../browser/support/server.js';

const GUIDE = new URL('../browser/fixtures/websocket-integration-guide.md', import.meta.url);
const CLIENTS = Number(process.env.CLIENTS ?? 12);
const HELD_MS = Number(process.env.MINUTES ?? 0) * 60_000;
const PATIENCE_MS = 30_000;
const ORDERS = [undefined, ['websocket', 'polling'], ['polling'], ['websocket']];
const LINK = { SOCKRING_CLUSTER_LISTEN: '127.0.0.1:0', SOCKRING_CLUSTER_SECRET: 'what these instances know each other by' };

let folder;
let redisPort;
let redis;

before(async () => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'sockring-tunnels-'));
  redisPort = await freePort();
  redis = spawn('redis-server', ['--port', String(redisPort), '--save', '', '--dir', folder], { stdio: 'ignore' });
  await until('Redis listens', () => new Promise((resolve) => {
    import('node:net').then(({ connect }) => {
      const socket = connect(redisPort, '127.0.0.1', () => { socket.destroy(); resolve(true); });
      socket.on('error', () => resolve(false));
    });
  }));
});
after(async () => {
  redis.kill('SIGKILL');
  await once(redis, 'close');
  rmSync(folder, { recursive: true, force: true });
});

async function until(what, holds) {
  const deadline = Date.now() + PATIENCE_MS;
  while (!await holds()) {
    assert.ok(Date.now() < deadline, `within ${PATIENCE_MS} ms: ${what}`);
    await sleep(20);
  }
}

const text = async (instance) => (await fetch(`${instance.origin}/metrics`)).text();

// The sum of a metric, of those of its rows that have this label.
async function metric(instance, name, label = '') {
  const rows = (await text(instance)).split('\n').filter((line) => line.startsWith(name) && line.includes(label));
  return rows.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

async function startInstances(count, settings) {
  const instances = await Promise.all(Array.from({ length: count }, () => startServer({
    ACCESS_TOKEN_SECRET: SECRET, REDIS_HOST: '127.0.0.1', REDIS_PORT: String(redisPort), SOCKRING_DRAIN: '0', SOCKRING_SHARDS: '2', ...settings,
  })));
  for (const instance of instances) await until('it knows the others', async () => await metric(instance, 'sockring_neighbours ') === count - 1);
  return instances;
}

// Of the guide's block other are only the names of the servers, which have to be there, how many, and which is taken.
async function startNginx(instances, choice) {
  const block = /```nginx\n(# Nginx configuration for WebSocket\n[^]*?)```/.exec(readFileSync(GUIDE, 'utf8'))[1];
  const port = await freePort();
  const servers = instances.map((instance) => `    server 127.0.0.1:${instance.port};`).join('\n');
  const upstream = block.replace('    server server1:8080;\n    server server2:8080;', `${choice}\n${servers}`);
  const site = upstream.replace('server {\n    location', `server {\n    listen 127.0.0.1:${port};\n    location`);
  assert.notEqual(upstream, block);
  assert.notEqual(site, upstream);
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${folder}/${kind};`);
  const file = path.join(folder, `nginx-${port}.conf`);
  writeFileSync(file, `daemon off; worker_processes 1; pid ${file}.pid; error_log stderr; events { worker_connections 8192; }\n`
    + `http { access_log off; ${temporary.join(' ')}\n${site}\n}\n`);
  const child = spawn('nginx', ['-p', folder, '-e', 'stderr', '-c', file], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (more) => { said += more; });
  await until('nginx serves', async () => {
    assert.equal(child.exitCode, null, said);
    return fetch(`http://127.0.0.1:${port}/health`).then((answer) => answer.ok, () => false);
  });
  return { port, stop: () => { child.kill('SIGTERM'); return once(child, 'close'); } };
}

// CLIENTS of each order. What befalls them is written down.
function clientsOf(port) {
  return ORDERS.flatMap((transports, order) => Array.from({ length: CLIENTS }, (_, number) => {
    const told = { errors: [], disconnects: [] };
    const user = `user-${order}-${number}`;
    const socket = io(`http://127.0.0.1:${port}`, { auth: { token: mint(user) }, forceNew: true, ...(transports ? { transports } : {}) });
    socket.on('connect_error', (error) => told.errors.push(`${error.message} ${error.description ?? ''}`));
    socket.on('disconnect', (reason) => told.disconnects.push(reason));
    const mayUpgrade = !(transports?.length === 1 && transports[0] === 'polling');
    return { socket, told, user, mayUpgrade };
  }));
}

async function checkBlock(count, choice, settings) {
  const instances = await startInstances(count, settings);
  const nginx = await startNginx(instances, choice);
  const clients = clientsOf(nginx.port);
  try {
    await until('all are connected, and those that may have upgraded', () => clients.every(({ socket, mayUpgrade }) => (
      socket.connected && (!mayUpgrade || socket.io.engine.transport.name === 'websocket')
    )));
    await sleep(HELD_MS);
    const heard = clients.map(({ socket, user }) => new Promise((resolve) => {
      socket.on('report:updated', (data) => resolve(data.user === user));
    }));
    for (const { user } of clients) await instances[0].post('/emit', { user, event: 'report:updated', data: { user } });
    assert.deepEqual(new Set(await Promise.all(heard)), new Set([true]));
    for (const { told } of clients) assert.deepEqual(told, { errors: [], disconnects: [] });
    const unknown = await Promise.all(instances.map((instance) => metric(instance, 'sockring_unknown_sids_total')));
    assert.deepEqual(unknown, unknown.map(() => 0));
    const carried = await Promise.all(instances.map((instance) => metric(instance, 'sockring_tunnelled_requests_total', settings.SOCKRING_CLUSTER_LISTEN ? 'tcp' : 'redis')));
    assert.ok(carried.every((requests) => requests > 0), `each has brought some to others: ${carried}`);
  } finally {
    for (const { socket } of clients) socket.disconnect();
    await nginx.stop();
    await Promise.all(instances.map((instance) => instance.stop()));
  }
}

it(`the guide's nginx, two instances, round robin, over Redis alone`, () => checkBlock(2, '', {}));
it(`the guide's nginx, three instances, least_conn, by TCP`, () => checkBlock(3, '    least_conn;', LINK));
if (HELD_MS > 0) {
  it(`the guide's nginx, three instances, least_conn, over Redis alone`, () => checkBlock(3, '    least_conn;', {}));
  it(`the guide's nginx, two instances, round robin, by TCP`, () => checkBlock(2, '', LINK));
}
