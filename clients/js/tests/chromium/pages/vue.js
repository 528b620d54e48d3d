// An app around a composable.
import { createApp, h } from 'vue';
import { useWebSocket } from './composables/useWebSocket';

const { token } = JSON.parse(decodeURIComponent(location.hash.slice(1)));
window.heard = [];
createApp({
  setup() {
    const { isConnected, connect, disconnect } = useWebSocket((event) => window.heard.push(event));
    connect(token);
    return () => [
      h('p', { id: 'status' }, isConnected.value ? 'connected' : 'not connected'),
      h('button', { id: 'disconnect', onClick: disconnect }, 'disconnect'),
    ];
  },
}).mount('#root');
