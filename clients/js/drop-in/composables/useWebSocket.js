// A connection that lives as long as the component that calls this.
import { onUnmounted, ref, shallowRef } from 'vue';
import { createClient } from '@sockring/client';

const ANALYSIS_EVENTS = ['analysis:started', 'analysis:progress', 'analysis:completed', 'analysis:failed'];

// `onAnalysis(event, payload)` is called for each event of an analysis.
export function useWebSocket(onAnalysis = () => {}) {
  const client = shallowRef(null);
  const socket = shallowRef(null);
  const isConnected = ref(false);

  // `token`: a token, or a function that gets a fresh one, also asynchronously, for each attempt to connect.
  const connect = (token) => {
    disconnect();
    const url = process.env.VUE_APP_SERVER_URL || 'http://localhost:8080';
    const made = createClient({ url, getToken: typeof token === 'function' ? token : () => token });
    made.onStatus((status) => {
      isConnected.value = status.state === 'connected';
    });
    for (const event of ANALYSIS_EVENTS) made.on(event, (payload) => onAnalysis(event, payload));
    client.value = made;
    socket.value = made.socket;
  };

  const disconnect = () => {
    client.value?.disconnect();
    client.value = null;
    socket.value = null;
  };

  onUnmounted(disconnect);

  return { socket, isConnected, connect, disconnect };
}
