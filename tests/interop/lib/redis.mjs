// Redis of our own: one server or three masters of a cluster, in a temporary directory, without persistence.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createClient } from 'redis';
import { lastingPort } from './port.mjs';
import { until, within } from './wait.mjs';

const SLOTS = 16384;
const MASTERS = 3;

const running = new Set();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** One `redis-server` process after another, on the same port and in the same directory. */
export class RedisServer {
  #child = null;
  #directory = mkdtempSync(path.join(os.tmpdir(), 'sockring-redis-'));
  #commander = null;

  /** `settings`: more of redis.conf, as `{'cluster-enabled': 'yes'}`. */
  static async start(settings = {}) {
    const server = await RedisServer.reserve(settings);
    await server.begin();
    return server;
  }

  /** A port and a directory, and nothing that listens yet. */
  static async reserve(settings = {}) {
    const server = new RedisServer();
    Object.assign(server, { settings, host: '127.0.0.1', port: await lastingPort() });
    return server;
  }

  get url() {
    return `redis://127.0.0.1:${this.port}`;
  }

  get pid() {
    return this.#child?.pid;
  }

  /** Starts it, for the first time or again. */
  async begin() {
    const settings = { port: this.port, bind: '127.0.0.1', save: '', appendonly: 'no', dir: this.#directory, loglevel: 'warning', ...this.settings };
    const flags = Object.entries(settings).flatMap(([key, value]) => [`--${key}`, ...(Array.isArray(value) ? value : [value]).map(String)]);
    const child = spawn('redis-server', flags, { stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (part) => (said = (said + part).slice(-2000)));
    child.on('error', (error) => (said += error.message));
    running.add(child);
    child.once('exit', () => running.delete(child));
    this.#child = child;
    await until(5000, `redis-server on port ${this.port} answers; it said: ${said}`, () => this.command('PING').catch(() => null), (answer) => answer === 'PONG', 20);
  }

  /** One command. Connects when it has to, and never waits for a server that is gone. */
  async command(...args) {
    if (!this.#commander?.isReady) {
      this.#commander?.destroy();
      // Node-redis gives up after five seconds what it has not written, which is soon on a busy machine.
      const client = createClient({ commandOptions: { timeout: 30_000 }, socket: { host: this.host, port: this.port, reconnectStrategy: false }, password: this.password, disableOfflineQueue: true });
      client.on('error', () => {});
      this.#commander = client;
      try {
        await client.connect();
      } catch (error) {
        this.#commander = null;
        throw error;
      }
    }
    return this.#commander.sendCommand(args.map((one) => (Buffer.isBuffer(one) ? one : String(one))));
  }

  /** How many connections a PUBLISH to this channel reaches by SUBSCRIBE; patterns do not count. */
  async subscribers(channel, verb = 'NUMSUB') {
    return Number((await this.command('PUBSUB', verb, channel))[1]);
  }

  async channels(pattern = '*', verb = 'CHANNELS') {
    return (await this.command('PUBSUB', verb, pattern)).map(String).sort();
  }

  signal(name) {
    this.#child.kill(name);
  }

  /** kill -9, and waits until it is gone. */
  async kill() {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await within(5000, `redis-server ${child.pid} is gone`, gone);
  }

  async stop() {
    this.#commander?.destroy();
    this.#commander = null;
    await this.kill();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

/** Three masters with a third of the slots each. */
export class RedisCluster {
  static async start() {
    const cluster = new RedisCluster();
    cluster.masters = [];
    for (let number = 0; number < MASTERS; number += 1) {
      cluster.masters.push(await RedisServer.start({
        'cluster-enabled': 'yes',
        'cluster-config-file': 'nodes.conf',
        'cluster-node-timeout': 2000,
        'cluster-require-full-coverage': 'no',
        'cluster-port': await lastingPort(),
      }));
    }
    const [first, ...others] = cluster.masters;
    const step = Math.ceil(SLOTS / MASTERS);
    for (const [number, master] of cluster.masters.entries()) {
      await master.command('CLUSTER', 'ADDSLOTSRANGE', number * step, Math.min(SLOTS, (number + 1) * step) - 1);
      await master.command('CLUSTER', 'SET-CONFIG-EPOCH', number + 1);
    }
    for (const other of others) await first.command('CLUSTER', 'MEET', other.host, other.port, other.settings['cluster-port']);
    await cluster.formed();
    return cluster;
  }

  /** Every master knows the others and says that all slots are served. */
  async formed(ms = 15000) {
    for (const master of this.masters) {
      await until(ms, `master ${master.port} says cluster_state:ok`, () => master.command('CLUSTER', 'INFO').catch(String), (text) => (
        /cluster_state:ok/.test(text) && new RegExp(`cluster_known_nodes:${MASTERS}\\b`).test(text) && /cluster_slots_ok:16384/.test(text)
      ));
    }
  }

  get url() {
    return this.masters[0].url;
  }

  /** The master that had the slot of a channel in the beginning. */
  async owner(channel) {
    return this.masters[Math.floor(await this.slot(channel) / Math.ceil(SLOTS / MASTERS))];
  }

  /** Gives slots of one master to another, one after the other, as `redis-cli --cluster reshard` does: the new owner first. */
  async moveSlots(slots, from, to) {
    const [source, target] = [await from.command('CLUSTER', 'MYID'), await to.command('CLUSTER', 'MYID')].map(String);
    for (const slot of slots) {
      await to.command('CLUSTER', 'SETSLOT', slot, 'IMPORTING', source);
      await from.command('CLUSTER', 'SETSLOT', slot, 'MIGRATING', target);
      for (const master of [to, from, ...this.masters.filter((one) => one !== from && one !== to)]) await master.command('CLUSTER', 'SETSLOT', slot, 'NODE', target);
    }
  }

  /** The slot of a channel. */
  async slot(channel) {
    return Number(await this.masters[0].command('CLUSTER', 'KEYSLOT', channel));
  }

  async subscribers(channel, verb = 'SHARDNUMSUB') {
    const counts = await Promise.all(this.masters.map((master) => master.subscribers(channel, verb)));
    return counts.reduce((sum, one) => sum + one, 0);
  }

  async channels(pattern = '*', verb = 'SHARDCHANNELS') {
    return (await Promise.all(this.masters.map((master) => master.channels(pattern, verb)))).flat().sort();
  }

  async stop() {
    await Promise.all(this.masters.map((master) => master.stop()));
  }
}
