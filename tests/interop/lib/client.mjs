// The real socket.io-client in each version that must work unchanged.

import { isMarker } from './marker.mjs';
import { Queue, brief, within } from './wait.mjs';

export const versions = ['4.8.4', '4.7.4', '4.0.0', '3.1.3', '3.0.0'];

export const transportChoices = [
  ['default transports', undefined],
  ['polling only', ['polling']],
  ['websocket only', ['websocket']],
  ['websocket, then polling', ['websocket', 'polling']],
];

const loaded = new Map();
const open = new Set();

export async function load(version) {
  if (!loaded.has(version)) {
    const module = await import(`sio-client-${version}`);
    loaded.set(version, module.io ?? module.default.io ?? module.default);
  }
  return loaded.get(version);
}

/** A client whose events wait in order, from the very first one. */
export class Client {
  events = new Queue();
  connects = new Queue();
  errors = new Queue();
  disconnects = new Queue();
  upgrades = new Queue();

  static async create(version, target, { token, transports, namespace = '/', manager, ...options } = {}) {
    const io = await load(version);
    const client = new Client();
    client.version = version;
    const auth = token === undefined ? {} : { auth: { token } };
    client.socket = manager
      ? manager.socket(namespace, auth)
      : io(`${target.url}${namespace}`, {
        forceNew: true,
        reconnectionDelay: 50,
        reconnectionDelayMax: 200,
        ...(transports ? { transports } : {}),
        ...auth,
        ...options,
      });
    const { socket } = client;
    open.add(client);
    // A marker says how far it has got, and is no event of anybody's.
    socket.onAny((name, ...args) => {
      if (!isMarker(name)) client.events.push([name, ...args]);
    });
    socket.on('connect', () => client.connects.push(socket.id));
    socket.on('connect_error', (error) => client.errors.push(error));
    socket.on('disconnect', (reason) => client.disconnects.push(reason));
    if (!manager) socket.io.engine?.on('upgrade', (transport) => client.upgrades.push(transport.name));
    return client;
  }

  /** A client that is connected and has its `connected` event in `welcome`. */
  static async connected(version, target, options) {
    const client = await Client.create(version, target, options);
    await client.connectedNow();
    return client;
  }

  async connectedNow(ms = 5000) {
    await this.connects.next(ms, () => `socket.io-client ${this.version} connects; errors: ${brief(this.errors.seen.map(String))}`);
    this.welcome = await this.event('connected');
    return this.welcome;
  }

  /** The next event must have this name; gives its arguments (one: itself). */
  async event(name, ms = 5000) {
    const [got, ...args] = await this.events.next(ms, () => `socket.io-client ${this.version} gets ${name}; events so far: ${brief(this.events.seen)}`);
    if (got !== name) throw new Error(`socket.io-client ${this.version}: ${name} expected, got ${got} ${brief(args)}`);
    return args.length === 1 ? args[0] : args;
  }

  error(ms = 5000) {
    return this.errors.next(ms, () => `socket.io-client ${this.version} gets connect_error; connected: ${this.socket.connected}`);
  }

  disconnect(ms = 5000) {
    return this.disconnects.next(ms, () => `socket.io-client ${this.version} sees a disconnect`);
  }

  upgrade(ms = 5000) {
    return this.upgrades.next(ms, () => `socket.io-client ${this.version} upgrades; transport now: ${this.transport}`);
  }

  get transport() {
    return this.socket.io.engine?.transport?.name;
  }

  close() {
    open.delete(this);
    this.socket.disconnect();
    this.socket.io.engine?.close?.();
  }

  /** Ends it and waits until its connection is really gone. */
  async closed() {
    const { engine } = this.socket.io;
    open.delete(this);
    if (engine && engine.readyState !== 'closed') {
      const gone = new Promise((resolve) => engine.once('close', resolve));
      this.socket.disconnect();
      await within(5000, 'the engine of the client closes', gone);
    } else {
      this.socket.disconnect();
    }
  }
}

export function closeClients() {
  for (const client of [...open]) client.close();
}
