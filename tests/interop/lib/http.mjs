// HTTP, twice: exact bytes on node:net, and ordinary requests with keep-alive on node:http.

import assert from 'node:assert/strict';
import http from 'node:http';
import net from 'node:net';
import { brief, within } from './wait.mjs';

const CRLF2 = Buffer.from('\r\n\r\n');

/** One TCP connection: bytes as they are, responses parsed in order. */
export class RawConnection {
  #buffer = Buffer.alloc(0);
  #waiters = [];
  ended = false;
  error = null;

  static async open(target, options = {}) {
    const connection = new RawConnection();
    const socket = net.connect({ port: target.port, host: target.host ?? '127.0.0.1', allowHalfOpen: options.allowHalfOpen ?? false });
    connection.socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (chunk) => {
      connection.#buffer = Buffer.concat([connection.#buffer, chunk]);
      connection.#wake();
    });
    socket.on('error', (error) => {
      connection.error = error;
    });
    socket.on('end', () => connection.#finish());
    socket.on('close', () => connection.#finish());
    await within(5000, `TCP connection to port ${target.port}`, new Promise((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    }));
    return connection;
  }

  #finish() {
    this.ended = true;
    this.#wake();
  }

  #wake() {
    for (const waiter of this.#waiters.splice(0)) waiter();
  }

  #change() {
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  /** Resolves when the kernel has taken the bytes; never fails, a dead peer shows in `closed`. */
  write(data) {
    return new Promise((resolve) => {
      if (this.socket.destroyed || this.socket.writableEnded) resolve(false);
      else this.socket.write(data, (error) => resolve(!error));
    });
  }

  /** What has arrived and was not taken yet. */
  get pending() {
    return this.#buffer;
  }

  /** Takes `take(buffer)` bytes as soon as it gives a length >= 0; `take` may throw. */
  async take(ms, what, measure) {
    return within(ms, () => `${what}; bytes so far: ${brief(this.#buffer.toString('latin1'))}${this.#fate()}`, (async () => {
      for (;;) {
        const length = measure(this.#buffer, this.ended);
        if (length >= 0) {
          const bytes = this.#buffer.subarray(0, length);
          this.#buffer = this.#buffer.subarray(length);
          return bytes;
        }
        if (this.ended) {
          throw new Error(`the server closed the connection before: ${what}; bytes so far: ${brief(this.#buffer.toString('latin1'))}${this.#fate()}`);
        }
        await this.#change();
      }
    })());
  }

  #fate() {
    return this.error ? `; ${this.error.code ?? this.error.message}` : '';
  }

  /** The next HTTP response on this connection. */
  async response({ ms = 5000, method = 'GET', what = 'an HTTP response' } = {}) {
    const head = await this.take(ms, what, (buffer) => {
      const at = buffer.indexOf(CRLF2);
      return at < 0 ? -1 : at + 4;
    });
    const lines = head.toString('latin1').slice(0, -4).split('\r\n');
    const found = /^HTTP\/1\.[01] (\d{3})(?: (.*))?$/.exec(lines[0]);
    assert.ok(found, `a status line expected, got ${brief(lines[0])}`);
    const headers = {};
    for (const line of lines.slice(1)) {
      const at = line.indexOf(':');
      assert.ok(at > 0, `a header line expected, got ${brief(line)}`);
      const name = line.slice(0, at).toLowerCase();
      const value = line.slice(at + 1).trim();
      headers[name] = name in headers ? `${headers[name]}, ${value}` : value;
    }
    const status = Number(found[1]);
    const body = await this.#body(status, headers, method, ms, what);
    return { status, headers, lines, body, text: body.toString('utf8') };
  }

  async #body(status, headers, method, ms, what) {
    if (method === 'HEAD' || status === 204 || status === 304 || status < 200) return Buffer.alloc(0);
    if (/chunked/i.test(headers['transfer-encoding'] ?? '')) {
      const parts = [];
      for (;;) {
        const line = await this.take(ms, `a chunk of ${what}`, (buffer) => {
          const at = buffer.indexOf('\r\n');
          return at < 0 ? -1 : at + 2;
        });
        const size = parseInt(line.toString('latin1'), 16);
        const chunk = await this.take(ms, `a chunk of ${what}`, (buffer) => (buffer.length >= size + 2 ? size + 2 : -1));
        if (size === 0) return Buffer.concat(parts);
        parts.push(chunk.subarray(0, size));
      }
    }
    if (headers['content-length'] !== undefined) {
      const length = Number(headers['content-length']);
      return this.take(ms, `the body (${length} bytes) of ${what}`, (buffer) => (buffer.length >= length ? length : -1));
    }
    return this.take(ms, `the end of ${what}`, (buffer, ended) => (ended ? buffer.length : -1));
  }

  /** Waits until the server has closed; gives the bytes that came and were not taken. */
  async closed(ms = 5000, what = 'the server closes the connection') {
    await within(ms, () => `${what}; bytes so far: ${brief(this.#buffer.toString('latin1'))}`, (async () => {
      while (!this.ended) await this.#change();
    })());
    return this.#buffer;
  }

  /** An abrupt end (RST), as a crashed client or a cut network leaves it. */
  reset() {
    this.socket.resetAndDestroy();
  }

  destroy() {
    this.socket.destroy();
  }
}

/** One connection, one request in exact bytes, one response. */
export async function rawRequest(target, bytes, options = {}) {
  const connection = await RawConnection.open(target);
  try {
    await connection.write(bytes);
    const response = await connection.response(options);
    return { ...response, connection };
  } finally {
    if (!options.keep) connection.destroy();
  }
}

/** The bytes of a request: `requestBytes('GET', '/x', {A: 'b'}, body)`; Host and Content-Length come by themselves. */
export function requestBytes(method, path, headers = {}, body) {
  const all = { Host: '127.0.0.1', ...headers };
  const bytes = body === undefined ? null : Buffer.from(body);
  if (bytes && !('Content-Length' in all) && !('Transfer-Encoding' in all)) all['Content-Length'] = bytes.length;
  const head = [`${method} ${path} HTTP/1.1`, ...Object.entries(all).filter(([, v]) => v !== null).map(([k, v]) => `${k}: ${v}`), '', ''].join('\r\n');
  return bytes ? Buffer.concat([Buffer.from(head, 'latin1'), bytes]) : Buffer.from(head, 'latin1');
}

const shared = new http.Agent({ keepAlive: true });

/** An ordinary request. Gives {status, headers, text, body, json()}. */
export function request(target, path, { method = 'GET', headers = {}, body, agent = shared, ms = 5000, signal } = {}) {
  return within(ms, `an answer to ${method} ${path}`, new Promise((resolve, reject) => {
    const outgoing = http.request({ host: target.host ?? '127.0.0.1', port: target.port, path, method, headers, agent, signal }, (incoming) => {
      const parts = [];
      incoming.on('data', (part) => parts.push(part));
      incoming.on('error', reject);
      incoming.on('end', () => {
        const bytes = Buffer.concat(parts);
        const text = bytes.toString('utf8');
        resolve({ status: incoming.statusCode, headers: incoming.headers, body: bytes, text, json: () => JSON.parse(text) });
      });
    });
    outgoing.on('error', (error) => reject(new Error(`${method} ${path}: ${error.code ?? error.message}`)));
    if (body !== undefined) outgoing.write(body);
    outgoing.end();
  }));
}

const MESSAGES = ['Transport unknown', 'Session ID unknown', 'Bad handshake method', 'Bad request', 'Forbidden', 'Unsupported protocol version'];

/** Asserts an Engine.IO refusal: the status and the JSON body with its code and the official words. */
export function assertRefusal(response, status, code, what) {
  assert.equal(response.status, status, `${what}: status ${status} expected, got ${response.status} with body ${brief(response.text)}`);
  let value;
  try {
    value = JSON.parse(response.text);
  } catch {
    assert.fail(`${what}: a JSON body with code ${code} expected, got ${brief(response.text)}`);
  }
  assert.deepEqual(value, { code, message: MESSAGES[code] }, `${what}: body`);
}

/** Asserts the status, showing the body when it differs. */
export function assertStatus(response, expected, what) {
  const list = [expected].flat();
  assert.ok(list.includes(response.status), `${what}: status ${list.join(' or ')} expected, got ${response.status} with body ${brief(response.text)}`);
}
