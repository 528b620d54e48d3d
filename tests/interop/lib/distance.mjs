// A Redis that is farther away: a proxy on a port of its own that passes on all bytes so many milliseconds later, both ways.

import { once } from 'node:events';
import net from 'node:net';

export class Distance {
  #sockets = new Set();
  /** Of each connection, by the port from which Redis sees it: both its ends. */
  #byPort = new Map();

  /** With what servers ask of a Redis: `host`, `port` and `url`. */
  static async from(redis, ms) {
    const distance = new Distance();
    const server = net.createServer({ noDelay: true }, (near) => {
      const far = net.connect({ host: redis.host, port: redis.port, noDelay: true });
      far.once('connect', () => distance.#byPort.set(far.localPort, { near, far }));
      distance.#pass(near, far, ms);
      distance.#pass(far, near, ms);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address();
    return Object.assign(distance, { server, host: '127.0.0.1', port, url: `redis://127.0.0.1:${port}` });
  }

  #pass(from, to, ms) {
    this.#sockets.add(from);
    const later = (what) => setTimeout(what, ms);
    from.on('data', (bytes) => later(() => to.write(bytes)));
    from.on('end', () => later(() => to.end()));
    from.on('error', () => {});
    from.on('close', () => {
      this.#sockets.delete(from);
      later(() => to.destroySoon());
    });
  }

  /** Cuts all connections, and takes none for so long. */
  async away(ms) {
    const closed = once(this.server, 'close');
    this.server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
    await new Promise((resolve) => setTimeout(resolve, ms));
    this.server.listen(this.port, '127.0.0.1');
    await once(this.server, 'listening');
  }

  /** Whether it carries a connection that Redis sees from this port. */
  has(port) {
    return this.#byPort.has(port);
  }

  /** Of one connection nothing reaches Redis (`near`), or nothing comes from it (`far`), until the function that this gives is called. */
  hold(port, end) {
    const socket = this.#byPort.get(port)[end];
    socket.pause();
    return () => socket.resume();
  }

  /** Cuts one connection, with all that is held of it. */
  cut(port) {
    for (const socket of Object.values(this.#byPort.get(port))) socket.destroy();
  }

  async stop() {
    this.server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
