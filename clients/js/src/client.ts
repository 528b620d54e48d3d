// A client over the stock socket.io-client.
import { io, type ManagerOptions, type Socket, type SocketOptions } from 'socket.io-client';
import { Core, type RefusalCode } from './core.js';
import type { ServerEvents, ServerRefusal, Shutdown } from './events.js';

/** After a refusal, and where `getToken` fails: the first wait, the longest one, and by how much each may be longer. */
const RETRY_MS_MIN = 1_000;
const RETRY_MS_MAX = 30_000;
const JITTER = 0.5;

/** How socket.io-client waits after a lost connection. It never gives up. */
const RECONNECT_MS_MIN = 1_000;
const RECONNECT_MS_MAX = 10_000;

export interface ClientOptions {
  /** Where the server is, as `https://events.example.com`, or with a namespace. Absent: where the page comes from. */
  readonly url?: string;
  /**
   * The user's token, asked for at each attempt to connect, so that an expired one is replaced. `refused` says why
   * the server did not take the last one. Without a token the server refuses.
   */
  readonly getToken: (refused?: RefusalCode) => Promise<string | null | undefined> | string | null | undefined;
  /** Whether to connect at once: yes, unless this is `false`. */
  readonly autoConnect?: boolean;
  /** Options of socket.io-client, as `path` or `transports`. */
  readonly socket?: Partial<ManagerOptions & SocketOptions>;
}

const SERVER_REFUSALS: Record<ServerRefusal, true> = {
  token_missing: true, token_invalid: true, token_expired: true, key_unknown: true, user_missing: true, too_many: true,
};

/** A client of a sockring server that is connected by socket.io-client. */
export class SocketClient<Events = ServerEvents> extends Core<Events> {
  /** socket.io-client's own object, for what this one does not offer. */
  readonly socket: Socket;
  readonly #getToken: ClientOptions['getToken'];
  #token: string | undefined;
  #refused: RefusalCode | undefined;
  #refusals = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;
  /** When the break began that is not over yet. */
  #offlineSince: number | undefined;
  /** Counts attempts, so that an answer of `getToken` that comes after `disconnect()` is no attempt. */
  #attempt = 0;

  constructor({ url, getToken, autoConnect = true, socket: options }: ClientOptions) {
    super();
    this.#getToken = getToken;
    const all: Partial<ManagerOptions & SocketOptions> = {
      transports: ['websocket', 'polling'],
      tryAllTransports: true,
      reconnectionDelay: RECONNECT_MS_MIN,
      reconnectionDelayMax: RECONNECT_MS_MAX,
      ...options,
      reconnectionAttempts: Infinity,
      autoConnect: false,
      auth: (send) => void this.#authenticate(send),
    };
    this.socket = url === undefined ? io(all) : io(url, all);
    this.socket.on('connect', () => this.#connected());
    this.socket.on('disconnect', (reason) => this.#lost(reason));
    this.socket.on('connect_error', (error) => this.#failed(error));
    this.socket.onAny((event: string, ...args: unknown[]) => {
      // It tells the client how far it has got, and is nobody's event.
      if (args.length === 0 && /^(~[\w-]{7,}|\d+-\d+)$/.test(event)) return;
      if (event === 'server:shutdown') this.#comeBackLater(args[0] as Partial<Shutdown> | undefined);
      this.dispatch(event, args);
    });
    if (autoConnect) this.connect();
  }

  /** A browser that is back on the network need not wait for the next attempt. */
  readonly #online = () => {
    if (this.status.state === 'offline') this.connect();
  };

  connect(): void {
    globalThis.addEventListener?.('online', this.#online); // the same one again is none
    if (this.socket.connected || this.status.state === 'connecting') return;
    clearTimeout(this.#retry);
    if (this.socket.active) this.socket.disconnect(); // it waits for its next attempt: now is better
    this.#open();
  }

  disconnect(): void {
    globalThis.removeEventListener?.('online', this.#online); // else the window would keep every client that ever was
    clearTimeout(this.#retry);
    this.#attempt += 1;
    this.#offlineSince = undefined;
    this.#refusals = 0;
    if (this.status.state !== 'idle') this.setStatus({ state: 'idle', since: Date.now() });
    this.socket.disconnect();
  }

  emit(event: string, ...args: unknown[]): void {
    this.socket.emit(event, ...args);
  }

  #open(): void {
    this.setStatus({ state: 'connecting', since: Date.now() });
    this.socket.connect();
  }

  /** socket.io-client asks this for each CONNECT. */
  async #authenticate(send: (auth: object) => void): Promise<void> {
    this.#attempt += 1;
    const attempt = this.#attempt;
    let token;
    try {
      token = await this.#getToken(this.#refused);
    } catch (error) {
      if (attempt !== this.#attempt) return;
      this.socket.disconnect();
      this.#stay('token_unavailable', String(error instanceof Error ? error.message : error), this.#nextRetry());
      return;
    }
    if (attempt !== this.#attempt) return;
    this.#token = token ?? undefined;
    send(token ? { token } : {});
  }

  #connected(): void {
    this.#refused = undefined;
    this.#refusals = 0;
    this.#waitAsUsual();
    const recovered = this.socket.recovered === true; // from servers before 4.6 it is undefined
    const offlineSince = this.#offlineSince;
    this.#offlineSince = undefined;
    this.setStatus({
      state: 'connected', since: Date.now(), recovered, ...(offlineSince !== undefined && { offlineSince }),
    });
  }

  #lost(reason: string): void {
    if (this.status.state === 'idle' || this.status.state === 'refused') return;
    this.#attempt += 1;
    this.#offlineSince ??= Date.now();
    if (reason === 'io server disconnect') {
      this.#stay('disconnected', 'The server has disconnected this client');
    } else {
      this.setStatus({ state: 'offline', since: this.#offlineSince, reason });
    }
  }

  #failed(error: Error & { data?: { code?: string } }): void {
    if (this.status.state === 'idle') return;
    if (this.socket.active) {
      // No connection came about, and socket.io-client tries again.
      this.#offlineSince ??= Date.now();
      this.setStatus({ state: 'offline', since: this.#offlineSince, reason: error.message });
      return;
    }
    const code = refusalCode(error.data?.code);
    this.#refused = code;
    if (code === 'too_many' || code === 'other') this.#stay(code, error.message, this.#nextRetry());
    else void this.#askForAnother(code, error.message);
  }

  /** The token was refused. Only another one is worth an attempt: the same would be refused again. */
  async #askForAnother(code: RefusalCode, message: string): Promise<void> {
    const attempt = this.#attempt;
    const refused = this.#token;
    let another;
    try {
      another = await this.#getToken(code);
    } catch {
      another = undefined;
    }
    if (attempt !== this.#attempt) return;
    if (!another || another === refused) return this.#stay(code, message);
    if (this.#refusals === 0) {
      this.#refusals = 1;
      return this.#open();
    }
    this.#stay(code, message, this.#nextRetry());
  }

  #nextRetry(): number {
    const wait = Math.min(RETRY_MS_MIN * 2 ** this.#refusals, RETRY_MS_MAX) * (1 + Math.random() * JITTER);
    this.#refusals += 1;
    return Date.now() + wait;
  }

  #stay(code: RefusalCode, message: string, retriesAt?: number): void {
    clearTimeout(this.#retry);
    this.setStatus({
      state: 'refused', since: Date.now(), code, message, ...(retriesAt !== undefined && { retriesAt }),
    });
    if (retriesAt !== undefined) this.#retry = setTimeout(() => this.#open(), retriesAt - Date.now());
  }

  /** The server goes, and says when another one is there. Not before, and not all clients at once. */
  #comeBackLater(shutdown: Partial<Shutdown> | undefined): void {
    const wait = Number(shutdown?.reconnectInMs);
    if (!(wait > 0)) return;
    const center = wait * (1 + JITTER / 2);
    const manager = this.socket.io;
    manager.reconnectionDelayMax(Math.max(RECONNECT_MS_MAX, 2 * wait));
    manager.reconnectionDelay(center);
    manager.randomizationFactor(JITTER / 2 / (1 + JITTER / 2));
  }

  #waitAsUsual(): void {
    const { reconnectionDelay, reconnectionDelayMax, randomizationFactor } = this.socket.io.opts;
    this.socket.io.reconnectionDelay(reconnectionDelay ?? RECONNECT_MS_MIN);
    this.socket.io.reconnectionDelayMax(reconnectionDelayMax ?? RECONNECT_MS_MAX);
    this.socket.io.randomizationFactor(randomizationFactor ?? JITTER);
  }
}

function refusalCode(code: string | undefined): RefusalCode {
  return code !== undefined && code in SERVER_REFUSALS ? (code as ServerRefusal) : 'other';
}

/** A client of the sockring server at `url`, connected at once unless told otherwise. */
export function createClient<Events = ServerEvents>(options: ClientOptions): SocketClient<Events> {
  return new SocketClient<Events>(options);
}
