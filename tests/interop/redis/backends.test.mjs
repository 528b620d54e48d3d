// Backends that hold no client, in three languages: the examples of docs/redis.md, run as they are.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { createClient } from 'redis';
import { closeClients } from '../lib/client.mjs';
import { connect, startNode, startPeer } from '../lib/cluster.mjs';
import { request } from '../lib/http.mjs';
import { packageRoot, start } from '../lib/program.mjs';
import { needPython, python, run } from '../lib/python.mjs';
import { RedisServer } from '../lib/redis.mjs';
import { until } from '../lib/wait.mjs';

const example = (name) => path.join(packageRoot, 'redis/examples', name);
const hasPhp = spawnSync('php', ['-r', 'exit(extension_loaded("redis") && extension_loaded("msgpack") ? 0 : 1);']).status === 0;

let redis;
let server;
before(async () => {
  redis = await RedisServer.start();
  server = await startPeer(redis, { name: 'A' });
}, { timeout: 20000 });
afterEach(closeClients);
after(async () => {
  await server?.stop();
  await redis?.stop();
});

test('an Express backend with the adapter: the stock client elsewhere gets what it emits, and is seen', { timeout: 20000 }, async () => {
  const backend = await start(process.execPath, [example('adapter.mjs')], { REDIS_URL: redis.url, PORT: '0' });
  try {
    const client = await connect(server, 'mock-1', { transports: undefined });
    const other = await connect(server, 'mock-2');
    const response = await request(backend, '/interviews/77/analysis', {
      method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ userId: 'mock-1', analysis: { score: 0.75, words: ['é', '🎉'] } }),
    });
    assert.equal(response.status, 202);
    assert.deepEqual(await client.event('analysis:completed'), { interviewId: '77', analysis: { score: 0.75, words: ['é', '🎉'] } });
    assert.deepEqual((await request(backend, '/users/mock-1/sockets')).json(), [client.socket.id]);
    assert.equal(other.events.size, 0);
  } finally {
    await backend.stop();
  }
});

test('a worker with redis-emitter', { timeout: 20000 }, async () => {
  const client = await connect(server, 'mock-3', { transports: ['polling'] });
  await run(process.execPath, [example('emitter.mjs'), 'mock-3'], 10000, { REDIS_URL: redis.url });
  const { finishedAt, ...rest } = await client.event('analysis:completed');
  assert.deepEqual(rest, { interviewId: '42' });
  assert.match(finishedAt, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
});

test('Python, by redis and msgpack', { timeout: 300000 }, async () => {
  await needPython(['redis', 'msgpack'], example('requirements.txt'));
  const client = await connect(server, 'mock-4');
  await run(python, [example('emit.py'), 'mock-4'], 10000, { REDIS_URL: redis.url });
  assert.deepEqual(await client.event('analysis:completed'), { interviewId: '42', thumbnail: Buffer.from([0xff, 0xd8]), finishedAt: '2023-11-14T22:13:20.125Z' });
});

test('PHP, by php-redis and php-msgpack', { timeout: 20000, skip: !hasPhp && 'php with redis and msgpack is not here: apt-get install php-cli php-redis php-msgpack' }, async () => {
  const client = await connect(server, 'mock-5');
  await run('php', [example('emit.php'), 'mock-5'], 10000, { REDIS_URL: redis.url });
  assert.deepEqual(await client.event('analysis:completed'), { interviewId: '42', score: 0.5, tags: ['a', 'é🎉'] });
});

test("python-socketio's own Redis manager speaks another protocol: nobody gets its events", { timeout: 300000 }, async () => {
  await needPython(['socketio'], path.join(packageRoot, 'clients/python/requirements.txt'));
  await needPython(['redis'], example('requirements.txt'));
  const client = await connect(server, 'mock-6');
  const seen = [];
  const spy = createClient({ url: redis.url });
  await spy.connect();
  // Instances say to each other that they are there whenever their time comes.
  await spy.pSubscribe('*', (_, channel) => channel === 'socket.io-link#' || seen.push(channel));
  await run(python, [example('foreign.py'), 'mock-6'], 10000, { REDIS_URL: redis.url });
  // Behind it on the same Redis comes one that counts.
  await run(process.execPath, [example('emitter.mjs'), 'mock-6'], 10000, { REDIS_URL: redis.url });
  await client.event('analysis:completed');
  spy.destroy();
  assert.deepEqual(seen, ['socketio', 'socket.io#/#user:mock-6#']);
  assert.equal(client.events.size, 0);
});

test('emitters that are older or simpler than the one of today', { timeout: 20000 }, async () => {
  const client = await connect(server, 'mock-7');
  const { pack } = await import('../lib/msgpack.mjs');
  const packet = (number) => ({ type: 2, data: ['old', number], nsp: '/' });
  const room = 'socket.io#/#user:mock-7#';
  const messages = [
    // PyPI's socket.io-emitter: an empty string for what there is none of, no `except`.
    [room, ['emitter', packet(1), { flags: '', rooms: ['user:mock-7'] }]],
    ['socket.io#/#', ['emitter', packet(2), { flags: '', rooms: '' }]],
    // PyPI's socket-io-redis-emitter: nil for lists.
    [room, ['emitter', packet(3), { rooms: ['user:mock-7'], flags: { volatile: false, compress: false }, except: null }]],
    ['socket.io#/#', ['emitter', packet(4), { rooms: null, flags: null, except: null }]],
    [room, ['emitter', packet(5), { rooms: ['user:mock-7'] }]],
    ['socket.io#/#', ['emitter', packet(6), {}]],
    ['socket.io#/#', ['emitter', { type: 2, data: ['old', 7] }, { rooms: ['user:mock-7'], except: [], flags: { volatile: true, compress: true, timeout: 5, unknown: [1] } }]],
    ['socket.io#/#', [null, packet(8), { rooms: ['user:mock-7', 'nobody'] }]],
  ];
  const got = () => client.events.seen.filter((one) => one[0] === 'old').map((one) => one[1]);
  const wanted = [];
  for (const [channel, message] of messages) {
    await redis.command('PUBLISH', channel, pack(message));
    wanted.push(wanted.length + 1);
    // One by one: a volatile one is dropped where another is on its way to the client still.
    await until(3000, `number ${wanted.length} comes`, got, (list) => list.length >= wanted.length, 5);
  }
  assert.deepEqual(got(), wanted);
});

test('a Node server with another prefix is another cluster', { timeout: 20000 }, async () => {
  const node = await startNode(redis, { name: 'other', env: { PREFIX: 'other' } });
  try {
    const client = await connect(server, 'mock-8');
    await node.emit({ args: ['from elsewhere'] });
    await run(process.execPath, [example('emitter.mjs'), 'mock-8'], 10000, { REDIS_URL: redis.url });
    await client.event('analysis:completed');
    assert.equal((await node.ask('serverCount')).value, 1);
  } finally {
    await node.stop();
  }
});
