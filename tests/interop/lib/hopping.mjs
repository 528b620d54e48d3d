// Clients that hop between the servers of one stream under numbered events of all of them, while these are killed in turn. Every
// second client hops between ours; the others between ours and Node's. A Node server loses and doubles events by itself: it gives its
// clients what it emits before what it has still to read, so that their offsets run ahead or back, and what it restores may come once
// more when it reads it. So of those others it is only told what became of them.

import { api } from './api.mjs';
import { startNode, startPeer } from './cluster.mjs';
import { load } from './client.mjs';
import { tokenFor } from './jwt.mjs';
import { Ledger } from './ledger.mjs';
import { lastingPort } from './port.mjs';
import { RedisServer } from './redis.mjs';
import { paced, pause, until } from './wait.mjs';

const SETTLE_MS = 1000;
const pick = (list) => list[Math.floor(Math.random() * list.length)];

/** A server that is killed and comes back on its port. */
class Place {
  #start;
  server = null;
  kills = 0;

  static async open(kind, name, redis, env) {
    const place = new Place();
    const port = await lastingPort();
    place.kind = kind;
    place.#start = () => (kind === 'node' ? startNode(redis, { name, adapter: 'streams', port, env: { RECOVERY_MS: '120000' } }) : startPeer(redis, { name, adapter: 'streams', port, env }));
    place.server = await place.#start();
    return place;
  }

  get url() {
    return this.server.url;
  }

  /** Without a word, and back after a moment. */
  async kill(away) {
    this.kills += 1;
    const { server } = this;
    this.server = null;
    server.signal('SIGKILL');
    await server.exited;
    await pause(away);
    this.server = await this.#start();
  }

  /** Whether it is known that Redis has the event; `undefined`: nobody knows. */
  async emit(rooms, n) {
    const { server } = this;
    if (!server) return false;
    try {
      if (this.kind === 'node') {
        await server.ask('sequence', [['emit', { rooms, args: ['numbered', { n }] }]], 3000);
        return true;
      }
      const target = rooms.length === 0 ? { broadcast: true } : { rooms };
      const { published } = await api(server, 'POST', '/emit', { event: 'numbered', data: { n }, ...target });
      return published || undefined;
    } catch {
      return undefined;
    }
  }
}

/** A stock client that goes where it may, and from a Node server that was killed to one of ours: Node remembers nothing of it. */
class Hopper {
  ledger = new Ledger();
  expected = new Set();
  unknown = new Set();
  hops = 0;

  static async come(number, places, redis) {
    const hopper = new Hopper();
    hopper.user = `hopper-${number}`;
    Object.assign(hopper, { places, redis });
    hopper.at = pick(places);
    const io = await load('4.8.4');
    const { socket } = Object.assign(hopper, {
      socket: io(hopper.at.url, { forceNew: true, transports: ['websocket'], auth: { token: tokenFor(hopper.user) }, reconnection: false }),
    });
    socket.on('connect', () => {
      hopper.kills = hopper.at.kills;
      hopper.ledger.connected(socket.id, socket.recovered === true);
    });
    socket.on('disconnect', () => void hopper.#goOn());
    socket.on('connect_error', () => void hopper.#goOn());
    socket.onAny((name) => hopper.ledger.heard(name));
    socket.on('numbered', ({ n }) => hopper.ledger.got(n));
    return hopper;
  }

  /** Connects to a server, as soon as it may. */
  async #goOn() {
    if (this.stopped) return;
    const { at, socket } = this;
    const isKilled = at.kills !== this.kills || !at.server;
    if (at.kind === 'node' && !isKilled) {
      // A Node server is asked by another one only once, and has to have written by then who was there.
      await until(1000, 'the session is there', () => this.redis.command('EXISTS', `sio:session:${socket._pid}`), (count) => count === 1, 10).catch(() => {});
    } else if (isKilled) await pause(20);
    const open = this.places.filter((place) => place.server && !(isKilled && at.kind === 'node' && place.kind === 'node'));
    if (open.length > 0) {
      this.at = pick(open);
      socket.io.uri = this.at.url;
    }
    socket.connect();
  }

  hop() {
    if (!this.socket.connected) return;
    this.hops += 1;
    this.socket.io.engine.close();
  }

  leave() {
    this.stopped = true;
    this.socket.disconnect();
  }
}

/** What became of some. */
function tally(hoppers) {
  const sum = (of) => hoppers.reduce((total, hopper) => total + of(hopper), 0);
  return {
    clients: hoppers.length,
    hops: sum((hopper) => hopper.hops),
    recovered: sum(({ ledger }) => ledger.recovered),
    fresh: sum(({ ledger }) => ledger.fresh),
    unknown: sum(({ unknown }) => unknown.size),
    lost: sum(({ ledger, expected }) => ledger.lost(expected).length),
    doubled: sum(({ ledger }) => ledger.doubled.length + ledger.repeated.length),
  };
}

/** Emits, hops and kills for `ms`; gives what came of it. */
export async function hopping({ ours = 2, nodes = 2, clients = 40, rate = 100, ms = 5000, hopEvery = 50, killEvery = 0, away = 300, broadcastEvery = 20, env = {} }) {
  const redis = await RedisServer.start();
  const places = [];
  try {
    const kinds = [...Array(ours).fill('sockring'), ...Array(nodes).fill('node')];
    places.push(...(await Promise.all(kinds.map((kind, number) => Place.open(kind, `${kind}-${number}`, redis, { SOCKRING_RECOVERY_OFFSET: 'argument', ...env })))));
    const ourPlaces = places.filter(({ kind }) => kind === 'sockring');
    const roams = (number) => ours === 0 || number % 2 === 1;
    const hoppers = await Promise.all(Array.from({ length: clients }, (_, number) => Hopper.come(number, roams(number) ? places : ourPlaces, redis)));
    await until(20000, 'all are connected', () => hoppers.filter(({ socket }) => !socket.connected).length, (count) => count === 0);
    let emitted = 0;
    // A Node server restores only whom it has sent something.
    const number = async (place, receivers, rooms) => {
      const n = emitted;
      emitted += 1;
      const taken = await place.emit(rooms, n);
      for (const { expected, unknown } of receivers) (taken ? expected : unknown).add(n);
    };
    for (const hopper of hoppers) await number(places[0], [hopper], [`user:${hopper.user}`]);
    await until(5000, 'all have got one', () => hoppers.filter(({ ledger, expected }) => ledger.lost(expected).length > 0).length, (count) => count === 0);
    const end = performance.now() + ms;
    const running = () => performance.now() < end;
    const emitting = Promise.all(places.map(async (place, index) => {
      const begun = performance.now();
      for (let count = 0; running(); count += 1) {
        await paced(begun, count, rate / places.length);
        if (!place.server) continue;
        const hopper = hoppers[(count * places.length + index) % hoppers.length];
        const toAll = broadcastEvery > 0 && count % broadcastEvery === 0;
        await number(place, toAll ? hoppers : [hopper], toAll ? [] : [`user:${hopper.user}`]);
      }
    }));
    const hops = (async () => {
      while (running()) {
        pick(hoppers).hop();
        await pause(hopEvery);
      }
    })();
    const kills = (async () => {
      for (let turn = 0; killEvery > 0 && running(); turn += 1) {
        await pause(killEvery);
        if (running()) await places[turn % places.length].kill(away);
      }
    })();
    await Promise.all([emitting, hops, kills]);
    await until(20000, 'all are back', () => hoppers.filter(({ socket }) => !socket.connected).length, (count) => count === 0);
    await pause(SETTLE_MS);
    const result = {
      emitted,
      kills: places.map((place) => place.kills),
      settled: tally(hoppers.filter((_, number) => !roams(number))),
      roaming: tally(hoppers.filter((_, number) => roams(number))),
    };
    hoppers.forEach((hopper) => hopper.leave());
    return result;
  } finally {
    await Promise.all(places.map((place) => place.server?.stop().catch(() => {})));
    await redis.stop();
  }
}
