// An app around a hook: shows what the hook says, and keeps the actions that reach the store.
import { StrictMode, useReducer } from 'react';
import { createRoot } from 'react-dom/client';
import { Provider } from 'react-redux';
import { legacy_createStore as createStore } from 'redux';
import { useWebSocket } from './hooks/useWebSocket';

const { token, strict } = JSON.parse(decodeURIComponent(location.hash.slice(1)));
const started = { auth: { token, user: {} }, actions: [] };
const store = createStore((state = started, action) => (
  action.type === 'ROTATE'
    ? { ...state, auth: { ...state.auth, token: action.token } }
    : { ...state, actions: [...state.actions, action] }
));
window.actions = () => store.getState().actions.filter(({ type }) => type.startsWith('ANALYSIS'));
window.rotate = (another) => store.dispatch({ type: 'ROTATE', token: another });

function View({ swap, name }) {
  const { isConnected, connect, disconnect } = useWebSocket();
  const [renders, render] = useReducer((count) => count + 1, 1);
  return (
    <>
      <p id="status">{isConnected ? 'connected' : 'not connected'}</p>
      <button id="render" onClick={render}>render {renders}</button>
      <button id="connect" onClick={connect}>connect</button>
      <button id="disconnect" onClick={disconnect}>disconnect</button>
      <button id="swap" onClick={swap}>view {name}</button>
    </>
  );
}

function App() {
  const [name, swap] = useReducer((count) => count + 1, 1);
  return <View key={name} name={name} swap={swap} />;
}

const app = <Provider store={store}><App /></Provider>;
createRoot(document.getElementById('root')).render(strict ? <StrictMode>{app}</StrictMode> : app);
