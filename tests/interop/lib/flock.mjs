// Very many clients in one process: a socket each, WebSocket and Socket.IO in the fewest bytes, and one function for all events.

import net from 'node:net';
import { createHash, randomBytes } from 'node:crypto';
import { tokenFor } from './jwt.mjs';
import { within } from './wait.mjs';

const PARALLEL = 200;
const HEAD_END = Buffer.from('\r\n\r\n');
const KEY = Buffer.from('sockring interop').toString('base64');
const ACCEPT = createHash('sha1').update(`${KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');

/** A masked text frame. */
function frame(text) {
  const body = Buffer.from(text);
  const mask = randomBytes(4);
  const head = body.length < 126 ? Buffer.from([0x81, 0x80 | body.length]) : Buffer.from([0x81, 0xfe, body.length >> 8, body.length & 255]);
  for (let index = 0; index < body.length; index += 1) body[index] ^= mask[index & 3];
  return Buffer.concat([head, mask, body]);
}

const PONG = frame('3');
// `["~` or, with the streams adapter, `["1`: how an event begins that only says how far the client has got.
const isMarkers = (byte) => byte === 0x7e || (byte >= 0x30 && byte <= 0x39);

class Member {
  #rest = null;
  #open = false;

  constructor(target, user, onEvent) {
    this.user = user;
    this.onEvent = onEvent;
    this.connected = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
    this.socket = net.connect({ port: target.port, host: '127.0.0.1', noDelay: true });
    this.socket.write(`GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${KEY}\r\n\r\n`);
    this.socket.on('data', (chunk) => this.#read(chunk));
    this.socket.on('error', (error) => this.reject(error));
    this.socket.on('close', () => {
      this.gone = true;
      this.reject(new Error(`${user} was closed`));
    });
  }

  #read(chunk) {
    let bytes = this.#rest ? Buffer.concat([this.#rest, chunk]) : chunk;
    this.#rest = null;
    if (!this.#open) {
      const end = bytes.indexOf(HEAD_END);
      if (end < 0) {
        this.#rest = bytes;
        return;
      }
      if (!bytes.subarray(0, end).includes(ACCEPT)) this.reject(new Error(bytes.subarray(0, end).toString()));
      this.#open = true;
      bytes = bytes.subarray(end + 4);
    }
    let at = 0;
    while (bytes.length - at >= 2) {
      let length = bytes[at + 1];
      let head = 2;
      if (length === 126) {
        if (bytes.length - at < 4) break;
        length = bytes.readUInt16BE(at + 2);
        head = 4;
      } else if (length === 127) {
        if (bytes.length - at < 10) break;
        length = Number(bytes.readBigUInt64BE(at + 2));
        head = 10;
      }
      if (bytes.length - at < head + length) break;
      if ((bytes[at] & 15) === 1) this.#packet(bytes, at + head, at + head + length);
      at += head + length;
    }
    if (at < bytes.length) this.#rest = bytes.subarray(at);
  }

  /** The packet in `bytes` from `begin` to `end`: the first byte is Engine.IO's, the second Socket.IO's. */
  #packet(bytes, begin, end) {
    const [engine, socket] = [bytes[begin], bytes[begin + 1]];
    if (engine === 0x34 && socket === 0x32) {
      if (!isMarkers(bytes[begin + 4])) this.onEvent(this.user, bytes, begin + 2, end);
    } else if (engine === 0x32) this.socket.write(PONG);
    else if (engine === 0x30) this.socket.write(frame(`40${JSON.stringify({ token: tokenFor(this.user) })}`));
    else if (engine === 0x34 && socket === 0x30) this.resolve(this);
    else if (engine === 0x34 && socket === 0x34) this.reject(new Error(bytes.subarray(begin, end).toString()));
  }
}

/**
 * Connects each of `users` (`[target, user]`), and waits until all are. `onEvent(user, bytes, begin, end)` gets each event but markers as
 * the JSON array between these two places; the bytes are lent for that moment.
 */
export async function gather(users, onEvent, ms = 120000) {
  const members = [];
  let next = 0;
  const worker = async () => {
    while (next < users.length) {
      const [target, user] = users[next];
      next += 1;
      const member = new Member(target, user, onEvent);
      members.push(member);
      await member.connected;
    }
  };
  const begun = Date.now();
  await within(ms, () => `${users.length} clients connect; ${members.length} have begun`, Promise.all(Array.from({ length: PARALLEL }, worker)));
  for (const member of members) member.connected.catch(() => {});
  return { members, took: Date.now() - begun, leave: () => members.forEach((member) => member.socket.destroy()), gone: () => members.filter((member) => member.gone).length };
}
