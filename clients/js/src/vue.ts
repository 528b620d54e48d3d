// The client in Vue.
import {
  computed, inject, onScopeDispose, provide, readonly, shallowRef, toValue, watchEffect,
  type App, type ComputedRef, type InjectionKey, type MaybeRefOrGetter, type Ref,
} from 'vue';
import type { AnalysisState } from './analyses.js';
import type { AnyClient, Client, Listener, Status } from './core.js';
import type { ServerEvents } from './events.js';

const KEY: InjectionKey<AnyClient> = Symbol('sockring');

/** A plugin: `app.use(sockring(client))`. The client is connected by whoever made it, and outlives the app. */
export function sockring(client: AnyClient): { install(app: App): void } {
  return { install: (app) => void app.provide(KEY, client) };
}

/** The same for the components below the one that calls it. */
export function provideClient(client: AnyClient): void {
  provide(KEY, client);
}

/** The client that was provided. */
export function useClient<Events = ServerEvents>(): Client<Events> {
  const client = inject(KEY, undefined);
  if (!client) throw new Error('useClient, useConnection, useEvent and useAnalysis need app.use(sockring(client))');
  return client;
}

export interface Connection {
  readonly status: Readonly<Ref<Status>>;
  readonly isConnected: ComputedRef<boolean>;
  readonly connect: () => void;
  readonly disconnect: () => void;
}

/** Where the connection stands. */
export function useConnection(): Connection {
  const client = useClient();
  const status = shallowRef(client.status);
  onScopeDispose(client.onStatus((changed) => {
    status.value = changed;
  }));
  return {
    status: readonly(status) as Readonly<Ref<Status>>,
    isConnected: computed(() => status.value.state === 'connected'),
    connect: () => client.connect(),
    disconnect: () => client.disconnect(),
  };
}

/** Calls `listener` at each event of this name while the component is there. */
export function useEvent<Name extends (keyof ServerEvents & string) | (string & {})>(
  event: Name, listener: Listener<ServerEvents, Name>,
): void {
  onScopeDispose(useClient().on(event, listener));
}

/** What is known of an interview's analysis, also of one whose id changes. */
export function useAnalysis(interviewId: MaybeRefOrGetter<string>): Readonly<Ref<AnalysisState>> {
  const client = useClient();
  const state = shallowRef(client.analysis(toValue(interviewId)).current);
  watchEffect((onCleanup) => {
    const analysis = client.analysis(toValue(interviewId));
    state.value = analysis.current;
    onCleanup(analysis.on((_, current) => {
      state.value = current;
    }));
  }, { flush: 'sync' });
  return readonly(state) as Readonly<Ref<AnalysisState>>;
}
