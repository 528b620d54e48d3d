// What a client is, whatever it is connected by: its status, its listeners and the analyses that it knows.
import { Analyses, type Analysis } from './analyses.js';
import type { ServerEvents, ServerRefusal } from './events.js';

/** Why a client stays unconnected: a refusal of the server, or one of the reasons that begin here. */
export type RefusalCode =
  | ServerRefusal
  /** `getToken` threw or rejected. */
  | 'token_unavailable'
  /** The server ended this socket for good, as by `POST /disconnect`. */
  | 'disconnected'
  /** The server refused with other words than sockring's. */
  | 'other';

/** Where a client stands. `since` and `offlineSince` are Unix time in milliseconds. */
export type Status =
  /** Not wanted: before `connect()`, after `disconnect()`. */
  | { readonly state: 'idle'; readonly since: number }
  | { readonly state: 'connecting'; readonly since: number }
  | {
      readonly state: 'connected';
      readonly since: number;
      /** After a break: the server has sent all that was missed. After a first connection: false. */
      readonly recovered: boolean;
      /** When the break began that this connection ended; absent after a first connection. */
      readonly offlineSince?: number;
    }
  /** Not connected, and the server said why. `retriesAt`: when it is asked again; absent: at the next `connect()`. */
  | {
      readonly state: 'refused';
      readonly since: number;
      readonly code: RefusalCode;
      readonly message: string;
      readonly retriesAt?: number;
    }
  /** The connection is gone, or none comes about; it is tried again and again. */
  | { readonly state: 'offline'; readonly since: number; readonly reason: string };

/** Ends what it was given for. */
export type Unsubscribe = () => void;

/** A listener's parameters: of a known event its payload, also under the name of one interview (`analysis:failed:42`). */
export type Listener<Events, Name> = Name extends keyof Events
  ? (payload: Events[Name]) => void
  : Name extends `analysis:${infer Kind}:${string}`
    ? (payload: Events[`analysis:${Kind}` & keyof Events]) => void
    : AnyListener;

export type AnyListener = (...args: any[]) => void;

/** A client of a sockring server. `Events`: the product's own events beside the server's. */
export interface Client<Events = ServerEvents> {
  /** A new object whenever it changes, and only then. */
  readonly status: Status;
  /** Whether it is connected right now. */
  readonly isConnected: boolean;
  /** Wants a connection. Does nothing where there is one; asks again at once where one was refused. */
  connect(): void;
  /** Wants none. Listeners stay. */
  disconnect(): void;
  /** Calls `listener` at each event of this name, over all connections, until the returned function is called. */
  on<Name extends (keyof Events & string) | (string & {})>(event: Name, listener: Listener<Events, Name>): Unsubscribe;
  /** Ends what `on` began, or with no listener all of an event's. */
  off(event: string, listener?: AnyListener): void;
  /** Sends an event to the server. Waits for the connection where there is none. */
  emit(event: string, ...args: unknown[]): void;
  /** Calls `listener` whenever `status` has changed. */
  onStatus(listener: (status: Status) => void): Unsubscribe;
  /** The analysis of an interview: what is known of it, and its events, by `analysis:<kind>` and `analysis:<kind>:<id>`. */
  analysis(interviewId: string): Analysis;
}

/** A client whatever its product's events are. */
export type AnyClient = Client<any>;

/** The part of a client that needs no connection; what has one calls `dispatch` and `setStatus`. */
export abstract class Core<Events = ServerEvents> implements Client<Events> {
  #status: Status = { state: 'idle', since: Date.now() };
  readonly #listeners = new Map<string, Set<AnyListener>>();
  readonly #watchers = new Set<(status: Status) => void>();
  readonly #analyses = new Analyses();

  abstract connect(): void;
  abstract disconnect(): void;
  abstract emit(event: string, ...args: unknown[]): void;

  get status(): Status {
    return this.#status;
  }

  get isConnected(): boolean {
    return this.#status.state === 'connected';
  }

  on<Name extends (keyof Events & string) | (string & {})>(event: Name, listener: Listener<Events, Name>): Unsubscribe {
    const known = this.#listeners.get(event);
    const listeners = known ?? new Set();
    if (!known) this.#listeners.set(event, listeners);
    listeners.add(listener as AnyListener);
    return () => this.off(event, listener as AnyListener);
  }

  off(event: string, listener?: AnyListener): void {
    const listeners = this.#listeners.get(event);
    if (listener) listeners?.delete(listener);
    if (!listener || listeners?.size === 0) this.#listeners.delete(event);
  }

  onStatus(listener: (status: Status) => void): Unsubscribe {
    this.#watchers.add(listener);
    return () => this.#watchers.delete(listener);
  }

  analysis(interviewId: string): Analysis {
    return this.#analyses.of(interviewId);
  }

  /** An event has come. A listener that throws does not keep it from the others. */
  protected dispatch(event: string, args: unknown[]): void {
    this.#analyses.receive(event, args[0]);
    for (const listener of [...(this.#listeners.get(event) ?? [])]) isolated(listener, args);
  }

  protected setStatus(status: Status): void {
    this.#status = status;
    for (const watcher of [...this.#watchers]) isolated(watcher, [status]);
  }
}

/** Calls a listener; what it throws is reported as an uncaught error, and goes no further. */
export function isolated(listener: AnyListener, args: unknown[]): void {
  try {
    listener(...args);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
