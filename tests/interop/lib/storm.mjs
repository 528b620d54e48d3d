// Clients whose networks break all the time, a backend that goes on sending them numbered events, and the account of who got what.

import http from 'node:http';
import { Member, NUMBERED, TRANSPORTS } from './member.mjs';
import { apiKey } from './program.mjs';
import { paced, pause, until } from './wait.mjs';

const ROOMS = ['north', 'east', 'south'];
const PADDING_BYTES_MAX = 400;
const BATCH_MAX = 20;
/** A client has seen the end of its connection by then. */
const NOTICED_MS = 200;
const ROOT = '/api/v1/websocket';

export const CUTS = ['bytes', 'writes'];
/** Clients that can recover, and those that come back as somebody new. */
export const RECOVERING = ['4.6.0', '4.7.4', '4.8.4'];
export const FORGETFUL = ['3.0.0', '3.1.3', '4.0.0', '4.5.4', 'python'];

/** The API joins in the main namespace. */
const roomsIn = (namespace) => (namespace === '/' ? ROOMS.filter(() => Math.random() < 0.5) : []);

const one = (list) => list[Math.floor(Math.random() * list.length)];

/** One request after another on one connection, as numbered as they come. */
class Sender {
  #agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  #next = 0;
  emitted = 0;

  constructor(target, members) {
    Object.assign(this, { target, members });
    this.users = [...new Set(members.map((member) => member.user))];
  }

  post(route, body) {
    return new Promise((resolve, reject) => {
      const text = JSON.stringify(body);
      const headers = { 'x-api-key': apiKey, 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) };
      const request = http.request({ host: '127.0.0.1', port: this.target.port, path: ROOT + route, method: 'POST', agent: this.#agent, headers }, (response) => {
        const parts = [];
        response.on('data', (part) => parts.push(part));
        response.on('end', () => {
          const answer = Buffer.concat(parts).toString();
          if (response.statusCode === 200) resolve(JSON.parse(answer).data);
          else reject(new Error(`POST ${route}: ${response.statusCode} ${answer}`));
        });
      });
      request.on('error', reject);
      request.end(text);
    });
  }

  /** A user, a room or all. */
  #anybody() {
    const namespace = one(this.members).namespace;
    const dice = Math.random();
    const to = dice < 0.6 ? { user: one(this.users) } : dice < 0.9 ? { room: one(ROOMS) } : { broadcast: true };
    return { ...to, namespace };
  }

  /** The next event; whoever it is for expects its number from now on. */
  #expectedBy(to) {
    const n = this.#next;
    this.#next += 1;
    this.emitted += 1;
    for (const member of this.members) {
      if (member.namespace !== to.namespace) continue;
      if (to.broadcast || to.user === member.user || member.rooms.includes(to.room)) member.expected.add(n);
    }
    return { ...to, event: NUMBERED, data: { n, padding: 'x'.repeat(Math.floor(Math.random() * PADDING_BYTES_MAX)) } };
  }

  /** At `rate` a second, at times many at once, until `done`. */
  async send(rate, done) {
    const begun = performance.now();
    for (let sent = 0; !done(); ) {
      await paced(begun, sent, rate);
      if (Math.random() < 0.05) {
        // To the same: what goes to different rooms at once may take different ways between shards.
        const to = this.#anybody();
        const batch = Array.from({ length: 1 + Math.floor(Math.random() * BATCH_MAX) }, () => this.#expectedBy(to));
        await this.post('/emit/batch', batch);
        sent += batch.length;
      } else {
        await this.post('/emit', this.#expectedBy(this.#anybody()));
        sent += 1;
      }
    }
  }

  /** The last number of each namespace: with it there, nothing more is on its way. */
  async finish() {
    const last = new Map();
    for (const namespace of new Set(this.members.map((member) => member.namespace))) {
      last.set(namespace, this.#next);
      await this.post('/emit', this.#expectedBy({ broadcast: true, namespace }));
    }
    return last;
  }

  stop() {
    this.#agent.destroy();
  }
}

/** One client of each kind: version, transports, cut; `times` of each. */
export function kinds({ versions, transports = Object.keys(TRANSPORTS), cuts = CUTS, times = 1, namespaces = ['/'] }) {
  const all = [];
  for (let time = 0; time < times; time += 1) {
    for (const version of versions) for (const way of transports) for (const cut of cuts) for (const namespace of namespaces) all.push({ version, transports: way, cut, namespace });
  }
  // Two sockets of every fifth user.
  return all.map((kind, number) => ({ ...kind, user: `storm-${number % 5 === 4 ? number - 1 : number}` }));
}

/**
 * Lets the networks of `clients` (see `kinds`) break until there were so many `breaks`, or `least` when `ms` are over, while
 * `rate` events a second go out; then lets all come back and take what is left. Gives a row per kind of client.
 */
export async function storm(target, clients, { breaks = Infinity, least = 0, ms = Infinity, rate = 200, assertAlive = () => target.assertAlive() } = {}) {
  const members = await Promise.all(clients.map((client) => Member.create(target, { ...client, rooms: roomsIn(client.namespace) })));
  const sender = new Sender(target, members);
  try {
    await until(30000, 'all are connected', () => members.filter((member) => !member.connected).map((member) => member.version), (away) => away.length === 0);
    for (const { id, rooms } of members) {
      for (const room of rooms) await sender.post('/rooms/join', { socketId: id, room });
    }
    for (const member of members) member.network.breakAt(member.cut, member.transports);
    const end = Date.now() + ms;
    const seen = () => members.reduce((sum, member) => sum + member.breaks, 0);
    await sender.send(rate, () => {
      assertAlive();
      return seen() >= breaks || (Date.now() > end && seen() >= least);
    });
    for (const { network } of members) network.heal();
    await pause(NOTICED_MS);
    await until(20000, 'all are back', () => members.filter((member) => !member.connected).map((member) => `${member.version} ${member.transports}`), (away) => away.length === 0);
    const last = await sender.finish();
    // Who does not get it has lost it, as the account will say.
    await until(5000, 'all have the last event', () => members.every((member) => member.ledger.has(last.get(member.namespace)))).catch(() => {});
    return { rows: account(members), emitted: sender.emitted };
  } finally {
    sender.stop();
    for (const member of members) member.leave();
  }
}

const COUNTS = ['clients', 'breaks', 'silences', 'recovered', 'fresh', 'expected', 'lost', 'outOfOrder', 'repeated', 'doubled', 'foreign', 'wrongIds'];

/** One row for each version, transports and cut. */
function account(members) {
  const rows = new Map();
  for (const member of members) {
    const { version, transports, cut, ledger, expected } = member;
    const name = `${version} ${transports} ${cut}`;
    if (!rows.has(name)) rows.set(name, { version, transports, cut, ...Object.fromEntries(COUNTS.map((count) => [count, 0])) });
    const counted = {
      clients: 1, breaks: member.breaks, silences: member.network.silences, recovered: ledger.recovered, fresh: ledger.fresh,
      expected: expected.size, lost: ledger.lost(expected).length, outOfOrder: ledger.outOfOrder.length, repeated: ledger.repeated.length,
      doubled: ledger.doubled.length, foreign: ledger.foreign(expected).length, wrongIds: ledger.wrongIds,
    };
    for (const count of COUNTS) rows.get(name)[count] += counted[count];
  }
  return [...rows.values()];
}

export function total(rows) {
  return Object.fromEntries(COUNTS.map((count) => [count, rows.reduce((sum, row) => sum + row[count], 0)]));
}

/**
 * What no client may see, as lines; empty: all is well. `offset` is the server's `recovery_offset`. Nothing is lost to whom
 * can recover, and who cannot sees order at least.
 */
export function faults(rows, offset) {
  const wrong = [];
  for (const row of rows) {
    const never = ['outOfOrder', 'doubled', 'foreign', 'wrongIds'];
    if (RECOVERING.includes(row.version)) never.push('lost', 'fresh');
    // A marker and its event leave in one write, and a poll comes whole or not at all.
    if (offset === 'argument' || row.cut === 'writes' || row.transports === 'polling') never.push('repeated');
    for (const count of never) if (row[count] > 0) wrong.push(`${row.version} ${row.transports} ${row.cut}: ${count} ${row[count]} (${row.breaks} breaks, ${row.expected} events)`);
  }
  const { repeated, breaks } = total(rows);
  if (repeated > breaks * REPEATED_SHARE_MAX) wrong.push(`${repeated} events came twice in ${breaks} breaks`);
  return wrong;
}

/** Of the breaks, those at which an event may come twice: its marker's share of the bytes. */
const REPEATED_SHARE_MAX = 0.08;
