// How much longer a request takes that is brought to the instance of its session, over Redis and by TCP: two instances, and
// POSTs of one polling client at both, in turn, on connections that stay.
//
//   SOCKRING_BIN=target/release/sockring node tests/deploy/bench-tunnels.mjs [requests]
import { spawn } from 'node:child_process';
import http from 'node:http';
import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { SECRET, freePort, mint, startServer } from '../browser/support/server.js';

const REQUESTS = Number(process.argv[2] ?? 2_000);
const POLLING = '/socket.io/?EIO=4&transport=polling';
const LINK = { SOCKRING_CLUSTER_LISTEN: '127.0.0.1:0', SOCKRING_CLUSTER_SECRET: 'what these instances know each other by' };

function client(port) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  return (method, target, body) => new Promise((resolve, reject) => {
    const request = http.request({ host: '127.0.0.1', port, path: target, method, agent }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (more) => { text += more; }).on('end', () => resolve({ status: answer.statusCode, text }));
    });
    request.on('error', reject).end(body);
  });
}

const quantile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))].toFixed(3);

const redisPort = await freePort();
const redis = spawn('redis-server', ['--port', String(redisPort), '--save', '', '--dir', os.tmpdir()], { stdio: 'ignore' });
for (const [over, settings] of [['redis', {}], ['tcp', LINK]]) {
  const environment = { ACCESS_TOKEN_SECRET: SECRET, REDIS_HOST: '127.0.0.1', REDIS_PORT: String(redisPort), SOCKRING_DRAIN: '0', SOCKRING_SHARDS: '1', ...settings };
  const instances = await Promise.all([startServer(environment), startServer(environment)]);
  for (const { origin } of instances) {
    while (!/^sockring_neighbours 1$/m.test(await (await fetch(`${origin}/metrics`)).text())) await sleep(20);
  }
  const [own, other] = instances.map(({ port }) => client(port));
  const { sid } = JSON.parse((await own('GET', POLLING)).text.slice(1));
  const target = `${POLLING}&sid=${sid}`;
  await own('POST', target, `40{"token":"${mint('bench')}"}`);
  const times = new Map([[own, []], [other, []]]);
  for (let number = 0; number < REQUESTS; number += 1) {
    for (const [send, taken] of times) {
      const begun = performance.now();
      const { status } = await send('POST', target, '3');
      taken.push(performance.now() - begun);
      if (status !== 200) throw new Error(`status ${status}`);
    }
    // The client is held to a number of packets in a second.
    if (number % 500 === 499) await sleep(1_000);
  }
  const [here, there] = [...times.values()].map((taken) => taken.sort((a, b) => a - b));
  const added = (quantile(there, 0.5) - quantile(here, 0.5)).toFixed(3);
  console.log(`${over}: own ${quantile(here, 0.5)} ms median, ${quantile(here, 0.99)} p99; brought ${quantile(there, 0.5)} median, ${quantile(there, 0.99)} p99; added ${added} ms median`);
  await Promise.all(instances.map((instance) => instance.stop()));
}
redis.kill('SIGKILL');
