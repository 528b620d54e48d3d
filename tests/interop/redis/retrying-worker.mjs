// A BullMQ worker that emits an event for each step of a job: `node retrying-worker.mjs REDIS_PORT API_KEY API_URL...`. Of
// several instances it asks another one each time.
// WITHOUT_KEYS=1 leaves the idempotency keys out.

import { setTimeout as pause } from 'node:timers/promises';
import { Worker } from 'bullmq';

const [redisPort, apiKey, ...urls] = process.argv.slice(2);
const STEPS = 3;
let asked = Math.floor(Math.random() * urls.length);

async function emit(job, step) {
  const body = { user: job.data.user, event: 'step', data: [job.id, step], ttl: 60 };
  if (process.env.WITHOUT_KEYS !== '1') body.idempotencyKey = `${job.id}/${step}`;
  asked += 1;
  const answer = await fetch(`${urls[asked % urls.length]}/api/v1/websocket/emit`, {
    method: 'POST',
    headers: { 'x-api-key': apiKey, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
}

async function run(job) {
  for (let step = 0; step < STEPS; step += 1) {
    await emit(job, step);
    await pause(5);
  }
}

const worker = new Worker('steps', run, {
  connection: { host: '127.0.0.1', port: Number(redisPort), maxRetriesPerRequest: null },
  concurrency: 10,
  // A job whose worker was killed is another's soon, however often that happens.
  lockDuration: 1000,
  stalledInterval: 300,
  maxStalledCount: 1000,
});
worker.on('error', (error) => console.error(error.message));
