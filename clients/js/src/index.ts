export { createClient, SocketClient, type ClientOptions } from './client.js';
export type { AnyListener, Client, Listener, RefusalCode, Status, Unsubscribe } from './core.js';
export type { Analysis, AnalysisEvent, AnalysisState } from './analyses.js';
export * from './events.js';
