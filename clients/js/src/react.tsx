// The client in React.
import {
  createContext, useCallback, useContext, useEffect, useMemo, useRef, useSyncExternalStore, type ReactNode,
} from 'react';
import type { AnalysisState } from './analyses.js';
import type { AnyClient, Client, Listener, Status } from './core.js';
import type { ServerEvents } from './events.js';

const Context = createContext<AnyClient | null>(null);

/** Gives `client` to all below. It is connected by whoever made it, and outlives this. */
export function SockringProvider({ client, children }: { client: AnyClient; children?: ReactNode }) {
  return <Context.Provider value={client}>{children}</Context.Provider>;
}

/** The client of the nearest `SockringProvider`. */
export function useClient<Events = ServerEvents>(): Client<Events> {
  const client = useContext(Context);
  if (!client) throw new Error('useClient, useConnection, useEvent and useAnalysis need a <SockringProvider> above them');
  return client;
}

export interface Connection {
  readonly status: Status;
  readonly isConnected: boolean;
  readonly connect: () => void;
  readonly disconnect: () => void;
}

/** Where the connection stands; renders again when that changes. */
export function useConnection(): Connection {
  const client = useClient();
  const subscribe = useCallback((changed: () => void) => client.onStatus(changed), [client]);
  const status = useSyncExternalStore(subscribe, () => client.status, () => client.status);
  return useMemo(() => ({
    status,
    isConnected: status.state === 'connected',
    connect: () => client.connect(),
    disconnect: () => client.disconnect(),
  }), [client, status]);
}

/** Calls the newest `listener` at each event of this name while the component is there. */
export function useEvent<Name extends (keyof ServerEvents & string) | (string & {})>(
  event: Name, listener: Listener<ServerEvents, Name>,
): void {
  const client = useClient();
  const newest = useRef(listener);
  useEffect(() => {
    newest.current = listener;
  });
  useEffect(() => client.on(event, ((...args: unknown[]) => {
    (newest.current as (...args: unknown[]) => void)(...args);
  }) as Listener<ServerEvents, Name>), [client, event]);
}

/** What is known of an interview's analysis; renders again at each of its events. */
export function useAnalysis(interviewId: string): AnalysisState {
  const client = useClient();
  const analysis = useMemo(() => client.analysis(interviewId), [client, interviewId]);
  const subscribe = useCallback((changed: () => void) => analysis.on(changed), [analysis]);
  return useSyncExternalStore(subscribe, () => analysis.current, () => analysis.current);
}
