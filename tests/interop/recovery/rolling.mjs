// A rolling restart: stock clients behind HAProxy, numbered events to their users without a pause, and one instance after the other
// ends by SIGTERM and is started again. Prints one line of JSON: what was lost, out of order, twice. Needs haproxy and redis-server.
//   node recovery/rolling.mjs --clients 500 --rate 200 --adapter streams          two instances on one Redis
//   node recovery/rolling.mjs --instances 1                                       one without Redis

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { load } from '../lib/client.mjs';
import { tokenFor } from '../lib/jwt.mjs';
import { Ledger } from '../lib/ledger.mjs';
import { lastingPort } from '../lib/port.mjs';
import { apiKey, packageRoot, startSockring } from '../lib/program.mjs';
import { RedisServer } from '../lib/redis.mjs';
import { paced, pause, until, within } from '../lib/wait.mjs';
import { options } from '../redis/load/common.mjs';

const { clients: count, rate, adapter, instances: instanceCount, rounds, drain, transports } = options({
  clients: 500, rate: 200, adapter: 'streams', instances: 2, rounds: 1, drain: 3, transports: 'websocket',
});
const QUIET_MS = 3000;
const folder = mkdtempSync(path.join(os.tmpdir(), 'sockring-rolling-'));

class Instance {
  static async start(redis) {
    const instance = new Instance();
    instance.settings = {
      PORT: String(await lastingPort()),
      SOCKRING_DRAIN: String(drain),
      SOCKRING_TRUSTED_PROXIES: '127.0.0.1/32',
      ...(redis ? { REDIS_HOST: redis.host, REDIS_PORT: String(redis.port), SOCKRING_REDIS_ADAPTER: adapter } : {}),
    };
    instance.server = await startSockring(instance.settings);
    return instance;
  }

  async restart() {
    const begun = Date.now();
    this.server.signal('SIGTERM');
    const { code } = await within((drain + 30) * 1000, 'an instance ends', this.server.exited);
    if (code !== 0) throw new Error(`an instance ended with ${code}: ${this.server.said()}`);
    this.server = await startSockring(this.settings);
    return Date.now() - begun;
  }
}

/** The file of deploy/ with these ports; of one instance, all go there. */
async function startProxy(instances) {
  const port = await lastingPort();
  const ports = [0, 1].map((number) => instances[number % instances.length].settings.PORT);
  const text = [['bind :80', `bind 127.0.0.1:${port}`], ['127.0.0.1:8080', `127.0.0.1:${ports[0]}`], ['127.0.0.1:8081', `127.0.0.1:${ports[1]}`]]
    .reduce((before, [from, to]) => before.replace(from, to), readFileSync(path.resolve(packageRoot, '../../deploy/haproxy.cfg'), 'utf8'));
  const file = path.join(folder, 'haproxy.cfg');
  writeFileSync(file, text);
  const child = spawn('haproxy', ['-db', '-f', file], { stdio: 'ignore' });
  await until(10000, 'haproxy listens', () => fetch(`http://127.0.0.1:${port}/`).then((answer) => answer.status === 404, () => false));
  return { port, stop: () => child.kill('SIGTERM') };
}

class Person {
  ledger = new Ledger();
  expected = new Set();

  static async come(proxy, number) {
    const person = new Person();
    person.user = `rolling-${number}`;
    const io = await load('4.8.4');
    person.socket = io(`http://127.0.0.1:${proxy.port}`, {
      forceNew: true, transports: transports.split(','), withCredentials: true, auth: { token: tokenFor(person.user) }, reconnectionDelay: 100, reconnectionDelayMax: 500,
    });
    person.socket.on('connect', () => person.ledger.connected(person.socket.id, person.socket.recovered === true));
    person.socket.onAny((name) => person.ledger.heard(name));
    person.socket.on('numbered', ({ n }) => person.ledger.got(n));
    return person;
  }
}

/** A backend that emits one after the other, at an instance that takes it. */
class Sender {
  #agents = new Map();
  #stopped = false;
  emitted = 0;
  refused = 0;
  unknown = 0;

  constructor(instances, people) {
    Object.assign(this, { instances, people });
    for (const { settings } of instances) this.#agents.set(settings.PORT, new http.Agent({ keepAlive: true, maxSockets: 1 }));
  }

  /** The status of the answer; 0: it was not connected; -1: the connection broke before an answer, so nobody knows. */
  #post(port, body) {
    return new Promise((resolve) => {
      const text = JSON.stringify(body);
      const headers = { 'x-api-key': apiKey, 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) };
      const request = http.request({ host: '127.0.0.1', port, path: '/api/v1/websocket/emit', method: 'POST', agent: this.#agents.get(port), headers }, (response) => {
        response.resume();
        response.on('end', () => resolve(response.statusCode));
      });
      request.on('error', (error) => resolve(error.code === 'ECONNREFUSED' ? 0 : -1));
      request.end(text);
    });
  }

  async #emit(person) {
    const n = this.emitted;
    this.emitted += 1;
    for (let turn = n; ; turn += 1) {
      const { settings } = this.instances[turn % this.instances.length];
      const status = await this.#post(settings.PORT, { event: 'numbered', data: { n }, user: person.user });
      if (status === 200) {
        person.expected.add(n);
        return;
      }
      if (status === -1) {
        this.unknown += 1;
        return;
      }
      this.refused += 1;
      await pause(5);
    }
  }

  async send() {
    const begun = performance.now();
    while (!this.#stopped) {
      await paced(begun, this.emitted, rate);
      await this.#emit(this.people[this.emitted % this.people.length]);
    }
  }

  stop() {
    this.#stopped = true;
  }
}

const redis = instanceCount > 1 ? await RedisServer.start() : null;
const instances = await Promise.all(Array.from({ length: instanceCount }, () => Instance.start(redis)));
const proxy = await startProxy(instances);
try {
  const people = await Promise.all(Array.from({ length: count }, (_, number) => Person.come(proxy, number)));
  await until(60000, 'all are connected', () => people.filter(({ socket }) => !socket.connected).length, (away) => away === 0);
  const sender = new Sender(instances, people);
  const sending = sender.send();
  await pause(QUIET_MS);
  const restarts = [];
  for (let round = 0; round < rounds; round += 1) {
    for (const instance of instances) {
      restarts.push(await instance.restart());
      await until(30000, 'all are back', () => people.filter(({ socket }) => !socket.connected).length, (away) => away === 0);
      await pause(QUIET_MS);
    }
  }
  sender.stop();
  await sending;
  await pause(QUIET_MS);
  const sum = (of) => people.reduce((total, person) => total + of(person), 0);
  console.log(JSON.stringify({
    instances: instanceCount, adapter: redis ? adapter : null, clients: count, emitted: sender.emitted, refused: sender.refused, unknown: sender.unknown, restarts,
    recovered: sum(({ ledger }) => ledger.recovered),
    fresh: sum(({ ledger }) => ledger.fresh),
    lost: sum(({ ledger, expected }) => ledger.lost(expected).length),
    outOfOrder: sum(({ ledger }) => ledger.outOfOrder.length),
    twice: sum(({ ledger }) => ledger.doubled.length + ledger.repeated.length),
  }));
  for (const { socket } of people) socket.disconnect();
} finally {
  proxy.stop();
  await Promise.all(instances.map(({ server }) => server.stop().catch(() => {})));
  await redis?.stop();
  rmSync(folder, { recursive: true, force: true });
}
process.exit(0);
