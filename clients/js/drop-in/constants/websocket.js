// The names of the events, in step with the server's.
export { EVENTS as WEBSOCKET_EVENTS } from '@sockring/client';
