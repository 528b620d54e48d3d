// A client without a server, for tests of what uses one.
import { Core, type RefusalCode } from './core.js';
import type { ServerEvents } from './events.js';

/** A client whose connection is the test's. */
export class FakeClient<Events = ServerEvents> extends Core<Events> {
  /** What was emitted to the server. */
  readonly sent: { readonly event: string; readonly args: readonly unknown[] }[] = [];
  #offlineSince: number | undefined;

  /** Is connected at once. */
  connect(): void {
    if (this.isConnected) return;
    const offlineSince = this.#offlineSince;
    this.#offlineSince = undefined;
    this.setStatus({
      state: 'connected', since: Date.now(), recovered: false, ...(offlineSince !== undefined && { offlineSince }),
    });
  }

  disconnect(): void {
    this.#offlineSince = undefined;
    this.setStatus({ state: 'idle', since: Date.now() });
  }

  emit(event: string, ...args: unknown[]): void {
    this.sent.push({ event, args });
  }

  /** An event comes from the server, known ones with their payloads. */
  receive<Name extends (keyof Events & string) | (string & {})>(
    event: Name, ...args: Name extends keyof Events ? [payload: Events[Name]] : unknown[]
  ): void {
    this.dispatch(event, args);
  }

  /** The connection breaks. */
  drop(reason = 'transport close'): void {
    this.#offlineSince = Date.now();
    this.setStatus({ state: 'offline', since: this.#offlineSince, reason });
  }

  /** It comes back, with what was missed or without. */
  reconnect({ recovered }: { recovered: boolean }): void {
    const offlineSince = this.#offlineSince ?? Date.now();
    this.#offlineSince = undefined;
    this.setStatus({ state: 'connected', since: Date.now(), recovered, offlineSince });
  }

  /** The server refuses. */
  refuse(code: RefusalCode, message = 'Authentication failed'): void {
    this.setStatus({ state: 'refused', since: Date.now(), code, message });
  }
}

/** A fake client that is not connected yet. */
export function createFakeClient<Events = ServerEvents>(): FakeClient<Events> {
  return new FakeClient<Events>();
}
