// What the load programs share: servers, holders of clients, messages as the emitter writes them, the CPU time of processes.

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { startNode, startPeer } from '../../lib/cluster.mjs';
import { pack } from '../../lib/msgpack.mjs';
import { packageRoot } from '../../lib/program.mjs';

const TICKS_PER_SECOND = 100;
const BUCKET_MS = 0.1;

/** Options with numbers as numbers: `options({rate: 20000, servers: 'sockring'})`. */
export function options(defaults) {
  const { values } = parseArgs({ options: Object.fromEntries(Object.keys(defaults).map((name) => [name, { type: 'string' }])) });
  return Object.fromEntries(Object.entries(defaults).map(([name, fallback]) => [
    name, values[name] === undefined ? fallback : typeof fallback === 'number' ? Number(values[name]) : values[name],
  ]));
}

export function startServers(kind, redis, count, { adapter, shards, rooms = 'all' }) {
  const begin = (number) => (kind === 'node'
    ? startNode(redis, { name: `N${number}`, adapter, env: { NAMESPACES: '/' } })
    : startPeer(redis, { name: `S${number}`, adapter, env: { SOCKRING_NAMESPACES: '/', SOCKRING_SHARDS: String(shards), SOCKRING_REDIS_ROOMS: rooms } }));
  return Promise.all(Array.from({ length: count }, (_, number) => begin(number)));
}

/** Processes with a share of the users each: `users` is a list of [target, user]. */
export class Holders {
  static async hold(users, processes) {
    const holders = new Holders();
    holders.children = Array.from({ length: processes }, () => fork(path.join(packageRoot, 'redis/load/holder.mjs'), { serialization: 'advanced' }));
    const plain = users.map(([{ port }, user]) => [{ port }, user]);
    const share = Math.ceil(plain.length / processes);
    const answers = await Promise.all(holders.children.map((child, number) => holders.#ask(child, 'hold', { users: plain.slice(number * share, (number + 1) * share) })));
    holders.took = Math.max(...answers.map((answer) => answer.took));
    return holders;
  }

  async #ask(child, operation, spec = {}) {
    child.send({ operation, spec });
    const [{ value, failure }] = await once(child, 'message');
    if (failure) throw new Error(failure);
    return value;
  }

  reset(numbers) {
    return Promise.all(this.children.map((child) => this.#ask(child, 'reset', { numbers })));
  }

  async report() {
    const all = await Promise.all(this.children.map((child) => this.#ask(child, 'report')));
    const latencies = all[0].latencies;
    for (const one of all.slice(1)) one.latencies.forEach((count, bucket) => (latencies[bucket] += count));
    const sum = (name) => all.reduce((total, one) => total + one[name], 0);
    return { events: sum('events'), wrong: sum('wrong'), gone: sum('gone'), latencies };
  }

  /** The numbers that have come to nobody. */
  async missing() {
    const [first, ...others] = await Promise.all(this.children.map((child) => this.#ask(child, 'missing')));
    return others.reduce((some, { numbers }) => some.filter((number) => new Set(numbers).has(number)), first.numbers);
  }

  end() {
    for (const child of this.children) child.kill('SIGKILL');
  }
}

export function quantile(latencies, share) {
  const total = latencies.reduce((sum, one) => sum + one, 0);
  let rest = total * share;
  for (let bucket = 0; bucket < latencies.length; bucket += 1) {
    rest -= latencies[bucket];
    if (rest <= 0) return Math.round((bucket + 1) * BUCKET_MS * 10) / 10;
  }
  return null;
}

/** Seconds of processor time that a process has had. */
export function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** What Node's sharded adapter publishes for an emit to one room. */
export function shardedBodyTo(room, event, ...args) {
  return Buffer.from(JSON.stringify({ type: 3, data: { packet: { type: 2, data: [event, ...args], nsp: '/' }, opts: { rooms: [room], except: [], flags: {} } }, uid: 'fedcba9876543210', nsp: '/' }));
}

export function bodyTo(room, event, ...args) {
  return pack(['emitter', { type: 2, data: [event, ...args], nsp: '/' }, { rooms: [room], except: [], flags: {} }]);
}

/** One command as Redis reads it. */
export function command(...parts) {
  const list = parts.map((part) => (Buffer.isBuffer(part) ? part : Buffer.from(String(part))));
  return Buffer.concat([Buffer.from(`*${list.length}\r\n`), ...list.flatMap((part) => [Buffer.from(`$${part.length}\r\n`), part, Buffer.from('\r\n')])]);
}

export const channelOf = (room) => `socket.io#/#${room}#`;

export const roomOf = (user) => `user:${user}`;
