// The network of one client: a TCP proxy on a port of its own that breaks at any byte or between two writes of the server, and at
// times goes silent instead, so that one side or both see no end.

import { once } from 'node:events';
import net from 'node:net';

/** One break of five is a silence. */
const SILENT_EVERY = 5;
/** How long a client sits before a dead network until it notices; the server is not told. */
const NOTICED_MS_MAX = 200;
/** Of silences, the share that not even the client notices before a heartbeat is missing. */
const UNNOTICED = 0.25;
/** A server has ended by then what it does not hear any more. */
const FORGOTTEN_MS = 15000;

const one = (list) => list[Math.floor(Math.random() * list.length)];
const whole = (least, most) => least + Math.floor(Math.random() * (most - least + 1));
/** As many small ones as large ones. */
const anySize = (least, most) => Math.round(least * (most / least) ** Math.random());

/**
 * When the next break comes: after so many bytes both ways, or so many writes of the server. What waits for a polling client comes
 * in one answer, which has to have a chance of passing whole.
 */
const BUDGETS = {
  bytes: { websocket: () => anySize(40, 8000), polling: () => anySize(40, 60000), upgrade: () => anySize(40, 30000) },
  writes: { websocket: () => anySize(1, 60), polling: () => anySize(1, 10), upgrade: () => anySize(1, 40) },
};

export class BreakingNetwork {
  /** Connections that are whole, as pairs of sockets. */
  #pairs = new Set();
  #sockets = new Set();
  /** The client's ends of connections that pass nothing any more. */
  #dead = new Set();
  #budget = Infinity;
  #cut = 'bytes';
  #transport = 'websocket';
  breaks = 0;
  silences = 0;

  /** In front of `target`; whole until `breakAt` says otherwise. */
  static async before(target) {
    const network = new BreakingNetwork();
    network.target = target;
    network.server = net.createServer({ noDelay: true }, (near) => network.#accept(near));
    network.server.listen(0, '127.0.0.1');
    await once(network.server, 'listening');
    network.port = network.server.address().port;
    network.url = `http://127.0.0.1:${network.port}`;
    return network;
  }

  /** From now on breaks come again and again, at any of the `bytes` or between `writes`, as often as suits the transport. */
  breakAt(cut, transport) {
    this.#cut = cut;
    this.#transport = transport;
    this.#budget = BUDGETS[cut][transport]();
  }

  /** No more breaks, and the client notices what is dead. */
  heal() {
    this.#budget = Infinity;
    for (const near of this.#dead) near.resetAndDestroy();
  }

  #accept(near) {
    const far = net.connect({ port: this.target.port, host: '127.0.0.1', noDelay: true });
    const pair = { near, far };
    this.#pairs.add(pair);
    this.#pass(pair, near, far, 'up');
    this.#pass(pair, far, near, 'down');
  }

  #pass(pair, from, to, way) {
    this.#sockets.add(from);
    from.on('data', (bytes) => this.#take(pair, bytes, to, way));
    from.on('error', () => {});
    from.on('end', () => to.end());
    from.on('close', () => {
      this.#sockets.delete(from);
      if (this.#pairs.delete(pair)) to.destroySoon();
    });
  }

  #take(pair, bytes, to, way) {
    if (!this.#pairs.has(pair)) return;
    const price = this.#cut === 'bytes' ? bytes.length : Number(way === 'down');
    if (price < this.#budget) {
      this.#budget -= price;
      to.write(bytes);
      return;
    }
    // Between two writes may be before this one, or behind it.
    const passed = this.#cut === 'bytes' ? this.#budget : one([0, bytes.length]);
    if (passed > 0) to.write(bytes.subarray(0, passed));
    this.#budget = BUDGETS[this.#cut][this.#transport]();
    this.breaks += 1;
    if (this.breaks % SILENT_EVERY === 0) this.#fallSilent();
    else this.#end(pair);
  }

  /** Both sides see an end: an orderly one behind what was passed on, or at any byte a reset that may overtake it. */
  #end(pair) {
    this.#pairs.delete(pair);
    const reset = this.#cut === 'bytes' && Math.random() < 0.5;
    for (const socket of [pair.near, pair.far]) {
      if (reset) socket.resetAndDestroy();
      else socket.end(() => socket.destroy());
    }
  }

  /** The client's machine has changed networks: none of its connections passes anything any more, and the server never hears of it. */
  #fallSilent() {
    this.silences += 1;
    const dead = [...this.#pairs];
    this.#pairs.clear();
    for (const { near, far } of dead) {
      near.pause();
      far.pause();
      this.#dead.add(near);
      near.once('close', () => this.#dead.delete(near));
      setTimeout(() => far.destroy(), FORGOTTEN_MS).unref();
    }
    const notices = Math.random() >= UNNOTICED ? whole(0, NOTICED_MS_MAX) : FORGOTTEN_MS;
    setTimeout(() => dead.forEach(({ near }) => near.resetAndDestroy()), notices).unref();
  }

  stop() {
    this.server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
