// A minimal Engine.IO v4 client: polling on node:http, WebSocket on `ws`; nothing happens by itself.

import assert from 'node:assert/strict';
import http from 'node:http';
import { WebSocket } from 'ws';
import { RawConnection, request, requestBytes, assertStatus } from './http.mjs';
import { isMarkerPacket } from './marker.mjs';
import { Queue, brief, until, within } from './wait.mjs';

export const SEPARATOR = '\x1e';
export const SOCKETIO = '/socket.io/';
export const ENGINEIO = '/engine.io/';

/** One polling session. Nothing is polled, ponged or retried by itself. */
export class PollingSession {
  static async open(target, { path = SOCKETIO, query = '', headers } = {}) {
    const session = new PollingSession();
    Object.assign(session, { target, path, agent: new http.Agent({ keepAlive: true, maxSockets: 16 }) });
    session.main = await RawConnection.open(target);
    await session.main.write(requestBytes('GET', `${path}?EIO=4&transport=polling${query}`, { Connection: 'keep-alive', ...headers }));
    const response = await session.main.response({ what: 'the answer to the polling handshake' });
    assertStatus(response, 200, 'polling handshake');
    assert.equal(response.text[0], '0', `polling handshake: an open packet expected, got ${brief(response.text)}`);
    session.handshake = JSON.parse(response.text.slice(1));
    session.sid = session.handshake.sid;
    session.opening = response;
    return session;
  }

  get query() {
    return `${this.path}?EIO=4&transport=polling&sid=${this.sid}`;
  }

  get(options = {}) {
    return request(this.target, this.query, { agent: this.agent, ...options });
  }

  post(body, options = {}) {
    return request(this.target, this.query, { method: 'POST', body, agent: this.agent, ...options, headers: { 'Content-Type': 'text/plain;charset=UTF-8', ...options.headers } });
  }

  /** POST on a new TCP connection, so that it cannot come before a GET that `hold` has sent. */
  postAfter(body) {
    return this.post(body, { agent: new http.Agent() });
  }

  /** GET on the connection of the handshake, at once, as a keep-alive client sends it. */
  async getWarm() {
    const connection = await this.hold();
    try {
      return await connection.response({ what: 'the answer to a GET' });
    } finally {
      connection.destroy();
    }
  }

  /** POST that must be taken. */
  async send(...packets) {
    const response = await this.post(packets.join(SEPARATOR));
    assertStatus(response, 200, `POST of ${brief(packets.join(SEPARATOR))}`);
    assert.equal(response.text, 'ok', 'POST answer');
  }

  /** GET that must give packets. */
  async poll(options) {
    const response = await this.get(options);
    assertStatus(response, 200, 'poll');
    return response.text.split(SEPARATOR).filter((packet) => !isMarkerPacket(packet));
  }

  /** Polls until `count` packets have come. */
  async pollPackets(count) {
    const packets = [];
    while (packets.length < count) packets.push(...(await this.poll()));
    assert.equal(packets.length, count, `${count} packets expected, got ${brief(packets)}`);
    return packets;
  }

  /**
   * A GET on a TCP connection of its own, already handed to the kernel when this returns. The first one takes the
   * connection of the handshake, as a keep-alive client does, so that a POST sent after it really comes after it.
   */
  async hold() {
    const connection = this.main && !this.main.ended ? this.main : await RawConnection.open(this.target);
    this.main = null;
    await connection.write(requestBytes('GET', this.query, { Connection: 'keep-alive' }));
    return connection;
  }

  /** Socket.IO CONNECT and its two packets: the answer and the echo's `auth`. */
  async connect(payload = '') {
    await this.send(`40${payload}`);
    const [answer, auth] = await this.pollPackets(2);
    assert.match(answer, /^40\{"sid":"[^"]+"\}$/, 'CONNECT answer');
    assert.ok(auth.startsWith('42["auth",'), `the echo's auth event expected, got ${brief(auth)}`);
    return JSON.parse(answer.slice(2)).sid;
  }

  async assertGone(what) {
    const response = await this.get();
    assertStatus(response, 400, `${what}: the session is gone`);
    assert.equal(JSON.parse(response.text).code, 1, `${what}: code 1 (Session ID unknown), got ${response.text}`);
  }

  /** The session ends by itself: asked by requests of the wrong transport (code 3 while it lives), which touch nothing. */
  async goneWithin(ms, what) {
    await until(ms, `${what}: the session is gone (code 1)`, async () => {
      const response = await request(this.target, `${this.path}?EIO=4&transport=websocket&sid=${this.sid}`, { agent: this.agent });
      return response.text;
    }, (body) => body.includes('"code":1'), 20);
  }

  /** The session takes a message and goes on (Socket.IO echo, after CONNECT or before it). */
  async assertAlive(what) {
    const response = await this.post('40/nobody-here,');
    assertStatus(response, 200, `${what}: the session takes a POST`);
    const packets = await this.poll();
    assert.ok(packets.includes('44/nobody-here,{"message":"Invalid namespace"}'), `${what}: the session answers, got ${brief(packets)}`);
  }

  /** Ends it politely and frees its connections. */
  async end() {
    await this.post('1').catch(() => {});
    this.drop();
  }

  drop() {
    this.main?.destroy();
    this.agent.destroy();
  }
}

const open = new Set();

/** A WebSocket whose frames wait in order until they are asked for. Text frames are strings, binary frames Buffers. */
export class WsClient {
  frames = new Queue();
  closeCode = null;
  refusal = null;

  constructor(url, options = {}) {
    this.url = url;
    this.ws = new WebSocket(url, { perMessageDeflate: false, maxPayload: 64 * 1024 * 1024, ...options });
    open.add(this);
    this.opened = new Promise((resolve, reject) => {
      this.ws.on('open', resolve);
      this.ws.on('unexpected-response', (_, incoming) => {
        const parts = [];
        incoming.on('data', (part) => parts.push(part));
        incoming.on('end', () => {
          this.refusal = { status: incoming.statusCode, headers: incoming.headers, text: Buffer.concat(parts).toString() };
          reject(new Error(`refused with ${incoming.statusCode} ${brief(this.refusal.text)}`));
          this.#finish(1006);
        });
        incoming.on('error', () => this.#finish(1006));
      });
      this.ws.on('error', (error) => {
        this.error = error;
        reject(error);
      });
      this.ws.on('close', (code) => {
        reject(new Error(`closed with ${code}`));
        this.#finish(code);
      });
    });
    this.opened.catch(() => {});
    this.ws.on('message', (data, isBinary) => {
      const frame = isBinary ? data : data.toString('utf8');
      if (!isMarkerPacket(frame)) this.frames.push(frame);
    });
    this.ws.on('pong', (data) => this.frames.push({ pong: data.toString() }));
    this.gone = new Promise((resolve) => {
      this.finished = resolve;
    });
  }

  #finish(code) {
    if (this.closeCode !== null) return;
    this.closeCode = code;
    open.delete(this);
    this.frames.end(new Error(`the WebSocket closed with ${code}; frames before: ${brief(this.frames.seen)}`));
    this.finished(code);
  }

  static async open(url, options) {
    const client = new WsClient(url, options);
    await within(5000, `WebSocket to ${url} opens`, client.opened);
    return client;
  }

  /** A WebSocket-only Engine.IO session, its open packet taken. */
  static async session(target, { path = SOCKETIO, ...options } = {}) {
    const client = await WsClient.open(`${target.wsUrl}${path}?EIO=4&transport=websocket`, options);
    const first = await client.next('the open packet');
    assert.equal(first[0], '0', `an open packet expected, got ${brief(first)}`);
    client.handshake = JSON.parse(first.slice(1));
    client.sid = client.handshake.sid;
    return client;
  }

  /** A session that is in the main namespace of the echo (or in `nsp`), its `auth` event taken. */
  static async connected(target, nsp = '/', options = {}) {
    const client = await WsClient.session(target, options);
    client.socketId = await client.join(nsp);
    return client;
  }

  async join(nsp = '/', payload = '') {
    const prefix = nsp === '/' ? '' : `${nsp},`;
    this.send(`40${prefix}${payload}`);
    const answer = await this.nextMessage(`the answer to CONNECT ${nsp}`);
    assert.ok(answer.startsWith(`40${prefix}{"sid":"`), `CONNECT ${nsp} answer, got ${brief(answer)}`);
    const auth = await this.nextMessage(`the auth event of ${nsp}`);
    assert.ok(auth.startsWith(`42${prefix}["auth",`), `the auth event of ${nsp} expected, got ${brief(auth)}`);
    return JSON.parse(answer.slice(2 + prefix.length)).sid;
  }

  send(data) {
    this.ws.send(data);
  }

  /** The next frame, whatever it is. */
  next(what = 'a frame', ms = 3000) {
    return this.frames.next(ms, () => `${what}; frames so far: ${brief(this.frames.seen)}`);
  }

  /** The next frame that is not a ping of the server. */
  async nextMessage(what, ms) {
    for (;;) {
      const frame = await this.next(what, ms);
      if (frame !== '2') return frame;
    }
  }

  async expect(expected, what = 'frame', ms) {
    const frame = await this.nextMessage(`${what}: ${brief(expected)}`, ms);
    assert.deepEqual(frame, expected, `${what}: ${brief(expected)} expected, got ${brief(frame)}`);
  }

  /** The server must close; gives the close code (1005: a close frame without code, 1006: none). */
  async closed(what, ms = 3000) {
    return within(ms, () => `${what}: the server closes the WebSocket; frames so far: ${brief(this.frames.seen)}`, this.gone);
  }

  /** An echo of the main namespace proves that everything before was handled and nothing else was sent. */
  async assertEchoes(what, word = `barrier ${(WsClient.counter += 1)}`) {
    if (this.closeCode !== null) assert.fail(`${what}: the WebSocket is closed with ${this.closeCode}; frames: ${brief(this.frames.seen)}`);
    this.send(`42["message",${JSON.stringify(word)}]`);
    await this.expect(`42["message-back",${JSON.stringify(word)}]`, what);
  }

  static counter = 0;

  close() {
    this.ws.close();
  }

  terminate() {
    this.ws.terminate();
  }
}

const CLEAN = [1000, 1005];

/** The server must end this WebSocket with a close frame (without code, or 1000). */
export async function closesCleanly(client, what, ms) {
  const code = await client.closed(what, ms);
  assert.ok(CLEAN.includes(code), `${what}: a close frame without code (1005) or with 1000 expected, got ${code}`);
}

/** Ends whatever a failed test left open, at this target if one is named. */
export function closeAll(target) {
  for (const client of open) if (!target || client.url.startsWith(`${target.wsUrl}/`)) client.terminate();
}

/** The WebSocket of an upgrade, after its probe. */
export async function probe(session) {
  const client = await WsClient.open(`${session.target.wsUrl}${session.path}?EIO=4&transport=websocket&sid=${session.sid}`);
  client.send('2probe');
  await client.expect('3probe', 'probe answer');
  return client;
}
