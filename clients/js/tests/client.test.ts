// @vitest-environment node
// The client against the reference server, which is told how to refuse, to end and to vanish.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Server } from 'socket.io';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { createClient, type ClientOptions, type RefusalCode, type SocketClient, type Status } from '../src/index.js';

let server: Server;
let admit: (token: string | undefined) => string | undefined;
let clients: SocketClient[];

beforeEach(async () => {
  admit = () => undefined;
  clients = [];
  server = await listen(0);
});
afterEach(async () => {
  for (const client of clients) client.disconnect();
  await server.close();
});

async function listen(port: number): Promise<Server> {
  const http = createServer();
  const made = new Server(http);
  made.use((socket, next) => {
    const code = admit(socket.handshake.auth['token'] as string | undefined);
    next(code === undefined ? undefined : Object.assign(new Error('Authentication failed'), { data: { code } }));
  });
  await new Promise<void>((resolve) => http.listen(port, '127.0.0.1', resolve));
  return made;
}

const portOf = (from: Server) => (from.httpServer.address() as AddressInfo).port;

function connect(options: Partial<ClientOptions> = {}): SocketClient {
  const client = createClient({
    url: `http://127.0.0.1:${portOf(server)}`, getToken: () => 'a token', ...options,
    socket: { reconnectionDelay: 20, reconnectionDelayMax: 40, ...options.socket },
  });
  clients.push(client);
  return client;
}

function reached<State extends Status['state']>(client: SocketClient, state: State, after?: Status) {
  return new Promise<Extract<Status, { state: State }>>((resolve) => {
    const look = (status: Status) => {
      if (status.state !== state || status === after) return;
      stop();
      resolve(status as Extract<Status, { state: State }>);
    };
    const stop = client.onStatus(look);
    look(client.status);
  });
}

it('asks for the token at each connection, and hears on after a break', async () => {
  const given: string[] = [];
  const taken: (string | undefined)[] = [];
  admit = (token) => void taken.push(token);
  const client = connect({
    getToken: async () => {
      given.push(`token ${given.length}`);
      return given.at(-1);
    },
  });
  const heard: unknown[] = [];
  client.on('report:updated', (payload) => heard.push(payload));
  const first = await reached(client, 'connected');
  expect(first).toMatchObject({ recovered: false });
  expect(first.offlineSince).toBeUndefined();
  server.emit('report:updated', 1);
  await vi.waitFor(() => expect(heard).toEqual([1]));

  // An end by the server's own word is final.
  server.disconnectSockets(true);
  expect(await reached(client, 'refused')).toMatchObject({ code: 'disconnected' });
  client.connect();
  const second = await reached(client, 'connected', first);
  // A break below Socket.IO is not.
  for (const socket of server.sockets.sockets.values()) socket.conn.close();
  const offline = await reached(client, 'offline');
  const third = await reached(client, 'connected', second);
  expect(third.offlineSince).toBe(offline.since);
  server.emit('report:updated', 2);
  await vi.waitFor(() => expect(heard).toEqual([1, 2]));
  expect(taken).toEqual(given);
});

it('gets another token for one that is refused, and stays refused by the same', async () => {
  let token = 'old';
  const reasons: (RefusalCode | undefined)[] = [];
  admit = (shown) => (shown === 'old' ? 'token_expired' : undefined);
  const renewing = connect({
    getToken: (refused) => {
      reasons.push(refused);
      if (refused === 'token_expired') token = 'new';
      return token;
    },
  });
  await reached(renewing, 'connected');
  expect(reasons.slice(0, 2)).toEqual([undefined, 'token_expired']);

  const stubborn = connect({ getToken: () => 'old' });
  const status = await reached(stubborn, 'refused');
  expect(status).toMatchObject({ code: 'token_expired', message: 'Authentication failed' });
  expect(status.retriesAt).toBeUndefined();
});

it('tries again by itself where others were too many, and where no token could be had', async () => {
  vi.spyOn(Math, 'random').mockReturnValue(0);
  let full = true;
  admit = () => (full ? 'too_many' : undefined);
  const client = connect();
  const refused = await reached(client, 'refused');
  expect(refused.retriesAt! - refused.since).toBeCloseTo(1_000, -2);
  full = false;
  await reached(client, 'connected');

  let broken = true;
  const poor = connect({
    getToken: () => {
      if (broken) throw new Error('logged out');
      return 'a token';
    },
  });
  expect(await reached(poor, 'refused')).toMatchObject({ code: 'token_unavailable', message: 'logged out' });
  broken = false;
  poor.connect();
  await reached(poor, 'connected');
  vi.restoreAllMocks();
});

it('comes back after a shutdown neither early nor never', async () => {
  const client = connect({ socket: { reconnectionDelay: 1, reconnectionDelayMax: 2 } });
  await reached(client, 'connected');
  const port = portOf(server);
  server.emit('server:shutdown', { message: 'restart', reconnectInMs: 300 });
  await new Promise((resolve) => client.on('server:shutdown', resolve));
  for (const socket of server.sockets.sockets.values()) socket.conn.close();
  const { since } = await reached(client, 'offline');
  await server.close();
  server = await listen(port);
  const back = await reached(client, 'connected');
  expect(back.since - since).toBeGreaterThanOrEqual(299);
});

it('is idle after disconnect, whatever is on its way', async () => {
  let give: (token: string) => void = () => {};
  const client = connect({ getToken: () => new Promise<string>((resolve) => { give = resolve; }) });
  await vi.waitFor(() => expect(server.engine.clientsCount).toBe(1));
  client.disconnect();
  give('late');
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(client.status.state).toBe('idle');
  expect(server.sockets.sockets.size).toBe(0);
});

it('leaves nothing at the window when it is not wanted any more', async () => {
  const there = new Set<unknown>();
  vi.stubGlobal('addEventListener', (name: string, listener: unknown) => name === 'online' && there.add(listener));
  vi.stubGlobal('removeEventListener', (_: string, listener: unknown) => there.delete(listener));
  const client = connect();
  await reached(client, 'connected');
  client.connect();
  expect(there.size).toBe(1);
  client.disconnect();
  expect(there.size).toBe(0);
  vi.unstubAllGlobals();
});

it('a listener that throws keeps nothing from the others', async () => {
  const thrown: unknown[] = [];
  const listener = (error: unknown) => thrown.push(error);
  const before = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', listener);
  const client = connect();
  const heard: unknown[] = [];
  client.on('a', () => { throw new Error('mine'); });
  client.on('a', (payload) => heard.push(payload));
  await reached(client, 'connected');
  server.emit('a', 1);
  server.emit('a', 2);
  await vi.waitFor(() => expect(heard).toEqual([1, 2]));
  await vi.waitFor(() => expect(thrown).toHaveLength(2));
  process.removeListener('uncaughtException', listener);
  for (const one of before) process.on('uncaughtException', one);
});
