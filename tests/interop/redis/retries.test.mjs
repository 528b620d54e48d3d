// A worker of BullMQ that is killed in the middle: its jobs are run again, and each of their events comes once.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, test } from 'node:test';
import { Queue } from 'bullmq';
import { Client, closeClients } from '../lib/client.mjs';
import { request } from '../lib/http.mjs';
import { tokenFor } from '../lib/jwt.mjs';
import { apiKey, startSockring } from '../lib/program.mjs';
import { RedisServer } from '../lib/redis.mjs';
import { until } from '../lib/wait.mjs';

const script = path.join(path.dirname(fileURLToPath(import.meta.url)), 'retrying-worker.mjs');
const STEPS = 3;
const USERS = 10;

afterEach(closeClients);

const settings = { SOCKRING_SHARDS: '2', SOCKRING_KEPT_EVENTS_PER_USER_MAX: '1000' };

test('100 jobs of a worker that is killed twice: each event comes to its user exactly once', { timeout: 60000 }, async () => {
  await retry(await RedisServer.start(), [await startSockring(settings)], 100, 2);
});

test('500 jobs of one that is killed 6 times at two instances, whichever of them is asked and a user comes to', { timeout: 60000 }, async () => {
  const redis = await RedisServer.start();
  const own = { ...settings, REDIS_HOST: '127.0.0.1', REDIS_PORT: String(redis.port) };
  await retry(redis, await Promise.all([startSockring(own), startSockring(own)]), 500, 6);
});

async function retry(redis, targets, jobs, times) {
  const queue = new Queue('steps', { connection: { host: '127.0.0.1', port: redis.port } });
  queue.on('error', () => {});
  let worker = null;
  const begin = () => {
    worker = spawn(process.execPath, [script, redis.port, apiKey, ...targets.map((target) => target.url)], { stdio: ['ignore', 'inherit', 'inherit'] });
  };
  const kill = async () => {
    const gone = once(worker, 'exit');
    worker.kill('SIGKILL');
    await gone;
  };
  try {
    const received = new Map();
    // Half of the users are there, and half come when all is done.
    const listen = async (user) => {
      const client = await Client.create('4.8.4', targets[user % targets.length], { token: tokenFor(`user-${user}`), transports: ['websocket'] });
      client.socket.on('step', ([job, step]) => {
        const key = `${job}/${step}`;
        received.set(key, [...(received.get(key) ?? []), user]);
      });
      await client.connects.next(5000, 'connected');
    };
    for (let user = 0; user < USERS / 2; user += 1) await listen(user);
    await queue.addBulk(Array.from({ length: jobs }, (_, job) => ({
      name: 'steps',
      data: { user: `user-${job % USERS}` },
      opts: { jobId: `job-${job}`, attempts: 5 },
    })));
    begin();
    for (let kills = 1; kills <= times; kills += 1) {
      const enough = (jobs * kills) / (times + 2);
      await until(20000, `${enough} jobs are done`, () => queue.getCompletedCount(), (done) => done >= enough, 5);
      await kill();
      begin();
    }
    await until(40000, 'all jobs are done', () => queue.getCompletedCount(), (done) => done === jobs);
    for (let user = USERS / 2; user < USERS; user += 1) await listen(user);
    await until(10000, 'all events have come', () => received.size, (size) => size === jobs * STEPS);
    // What would come twice has come by then.
    for (let user = 0; user < USERS; user += 1) {
      const body = { user: `user-${user}`, event: 'step', data: [`end-${user}`, 0] };
      await request(targets[0], '/api/v1/websocket/emit', { method: 'POST', headers: { 'x-api-key': apiKey, 'content-type': 'application/json' }, body: JSON.stringify(body) });
    }
    await until(10000, 'the last ones have come', () => received.size, (size) => size === jobs * STEPS + USERS);
    const wrong = [...received].filter(([key, users]) => users.length !== 1 || users[0] !== Number(key.match(/\d+/)[0]) % USERS);
    assert.deepEqual(wrong, []);
    const metrics = (await Promise.all(targets.map(async (target) => (await request(target, '/metrics')).text))).join('\n');
    const count = (name) => [...metrics.matchAll(new RegExp(`^sockring_${name}(?:\\{[^}]*\\})? (\\d+)$`, 'gm'))].reduce((sum, [, value]) => sum + Number(value), 0);
    const repeated = count(targets.length > 1 ? 'bus_duplicates_total' : 'duplicates_total');
    assert.ok(repeated > 0, 'jobs were killed between their steps, and run again');
    console.log(`# ${repeated} of ${jobs * STEPS} events were emitted again`);
  } finally {
    await kill();
    await queue.close();
    await Promise.all(targets.map((target) => target.stop()));
    await redis.stop();
  }
}
