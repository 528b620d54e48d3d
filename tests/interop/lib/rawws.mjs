// A WebSocket in exact bytes: any frame, right or wrong.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { RawConnection, requestBytes } from './http.mjs';
import { SOCKETIO } from './engine.mjs';
import { isMarkerPacket } from './marker.mjs';
import { brief } from './wait.mjs';

export const OP = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 };

/** The headers of an opening handshake; `extra` replaces or (null) removes. */
export function upgradeHeaders(key, extra = {}) {
  return { Upgrade: 'websocket', Connection: 'Upgrade', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': key, ...extra };
}

export function acceptOf(key) {
  return createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
}

/** The bytes of one frame. */
export function frame({ opcode = OP.text, payload = '', fin = true, masked = true, rsv = 0, declaredLength } = {}) {
  const body = Buffer.from(payload);
  const length = declaredLength ?? body.length;
  const parts = [Buffer.from([(fin ? 0x80 : 0) | (rsv << 4) | opcode])];
  const bit = masked ? 0x80 : 0;
  if (declaredLength === undefined && length < 126) parts.push(Buffer.from([bit | length]));
  else if (declaredLength === undefined && length < 65536) parts.push(Buffer.from([bit | 126, length >> 8, length & 255]));
  else {
    const long = Buffer.alloc(9);
    long[0] = bit | 127;
    long.writeBigUInt64BE(BigInt(length), 1);
    parts.push(long);
  }
  if (!masked) return Buffer.concat([...parts, body]);
  const key = randomBytes(4);
  const hidden = Buffer.alloc(body.length);
  for (let i = 0; i < body.length; i += 1) hidden[i] = body[i] ^ key[i & 3];
  return Buffer.concat([...parts, key, hidden]);
}

export class RawWs {
  /** Sends the handshake and gives the connection with the response in `opening`. */
  static async handshake(target, { path = SOCKETIO, query = '?EIO=4&transport=websocket', headers = {}, after } = {}) {
    const raw = new RawWs();
    raw.key = randomBytes(16).toString('base64');
    raw.connection = await RawConnection.open(target);
    const bytes = requestBytes('GET', `${path}${query}`, upgradeHeaders(raw.key, headers));
    await raw.connection.write(after ? Buffer.concat([bytes, after]) : bytes);
    raw.opening = await raw.connection.response({ what: `the answer to the WebSocket handshake ${path}${query}` });
    return raw;
  }

  static async session(target, options) {
    const raw = await RawWs.handshake(target, options);
    assert.equal(raw.opening.status, 101, `WebSocket handshake: 101 expected, got ${raw.opening.status} ${brief(raw.opening.text)}`);
    const first = await raw.next('the open packet');
    assert.equal(first.payload.toString()[0], '0', 'the open packet');
    raw.sid = JSON.parse(first.payload.toString().slice(1)).sid;
    return raw;
  }

  /** In the main namespace of the echo. */
  static async connected(target, payload = '') {
    const raw = await RawWs.session(target);
    await raw.send({ payload: `40${payload}` });
    assert.match((await raw.nextText('the CONNECT answer')), /^40\{/);
    await raw.nextText('the event after CONNECT');
    return raw;
  }

  send(options) {
    return this.connection.write(frame(options));
  }

  write(bytes) {
    return this.connection.write(bytes);
  }

  /** The next frame of the server: {fin, rsv, opcode, payload}. */
  async next(what = 'a frame', ms = 3000) {
    let parsed;
    await this.connection.take(ms, what, (buffer) => {
      if (buffer.length < 2) return -1;
      assert.equal(buffer[1] & 0x80, 0, `${what}: a server must not mask its frames`);
      let length = buffer[1] & 127;
      let at = 2;
      if (length === 126) {
        if (buffer.length < 4) return -1;
        length = buffer.readUInt16BE(2);
        at = 4;
      } else if (length === 127) {
        if (buffer.length < 10) return -1;
        length = Number(buffer.readBigUInt64BE(2));
        at = 10;
      }
      if (buffer.length < at + length) return -1;
      parsed = { fin: buffer[0] >= 0x80, rsv: (buffer[0] >> 4) & 7, opcode: buffer[0] & 15, payload: Buffer.from(buffer.subarray(at, at + length)) };
      return at + length;
    });
    return parsed;
  }

  /** The next text that is neither a ping of the server nor a marker. */
  async nextText(what, ms) {
    for (;;) {
      const one = await this.next(what, ms);
      assert.equal(one.opcode, OP.text, `${what}: a text frame expected, got opcode ${one.opcode} ${brief(one.payload)}`);
      const text = one.payload.toString();
      if (text !== '2' && !isMarkerPacket(text)) return text;
    }
  }

  /**
   * The server must end this WebSocket: gives its close code, 1005 for a close frame without one,
   * 1006 for a TCP end without a close frame. Data frames before the close are passed over.
   */
  async closed(what, ms = 5000) {
    const end = Date.now() + ms;
    for (;;) {
      let one;
      try {
        one = await this.next(what, Math.max(1, end - Date.now()));
      } catch (error) {
        if (this.connection.ended) return 1006;
        throw error;
      }
      if (one.opcode === OP.close) return one.payload.length >= 2 ? one.payload.readUInt16BE(0) : 1005;
    }
  }

  async assertEchoes(what) {
    await this.send({ payload: '42["message","barrier"]' });
    assert.equal(await this.nextText(`${what}: an echo`), '42["message-back","barrier"]', what);
  }

  reset() {
    this.connection.reset();
  }

  destroy() {
    this.connection.destroy();
  }
}
