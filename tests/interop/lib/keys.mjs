// A login server: it signs tokens by keys of its own, and publishes the public ones as a JSON Web Key Set.

import { constants, createSign, generateKeyPairSync, sign as signWith } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import { certify } from './certificate.mjs';
import { now } from './jwt.mjs';

const KINDS = {
  RS256: ['rsa', { modulusLength: 2048 }],
  PS256: ['rsa', { modulusLength: 2048 }],
  ES256: ['ec', { namedCurve: 'P-256' }],
  ES384: ['ec', { namedCurve: 'P-384' }],
  EdDSA: ['ed25519', {}],
};

/** A key pair under an id. */
export class SigningKey {
  constructor(kid, alg) {
    const [kind, options] = KINDS[alg];
    Object.assign(this, { kid, alg, ...generateKeyPairSync(kind, options) });
  }

  get jwk() {
    return { ...this.publicKey.export({ format: 'jwk' }), kid: this.kid, use: 'sig' };
  }

  tokenFor(user, claims = {}) {
    const parts = [{ alg: this.alg, kid: this.kid, typ: 'JWT' }, { _id: user, exp: now() + 600, ...claims }];
    const body = parts.map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
    return `${body}.${this.#signature(body).toString('base64url')}`;
  }

  #signature(body) {
    if (this.alg === 'EdDSA') return signWith(null, Buffer.from(body), this.privateKey);
    const padding = this.alg === 'PS256' ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 } : {};
    return createSign(`sha${this.alg.slice(2)}`).update(body).sign({ key: this.privateKey, dsaEncoding: 'ieee-p1363', ...padding });
  }
}

/** Publishes `keys`, or answers by what `answer` is set to. */
export class KeyServer {
  requests = 0;
  keys = [];
  answer = (response) => response.end(JSON.stringify({ keys: this.keys.map((key) => key.jwk ?? key) }));
  #connections = new Set();

  /** `tls`: with a certificate of its own, which `certificate.certFile` is. */
  static async start(keys, { tls = false } = {}) {
    const server = new KeyServer();
    server.keys = keys;
    const listener = (request, response) => {
      server.requests += 1;
      server.answer(response);
    };
    server.certificate = tls ? certify('IP:127.0.0.1') : undefined;
    server.server = tls ? https.createServer(server.certificate, listener) : http.createServer(listener);
    server.server.on('connection', (connection) => {
      server.#connections.add(connection);
      connection.on('close', () => server.#connections.delete(connection));
    });
    server.server.listen(0, '127.0.0.1');
    await once(server.server, 'listening');
    server.port = server.server.address().port;
    server.url = `${tls ? 'https' : 'http'}://127.0.0.1:${server.port}/jwks.json`;
    return server;
  }

  async stop() {
    this.certificate?.remove();
    if (!this.server.listening) return;
    const closed = once(this.server, 'close');
    this.server.close();
    for (const connection of this.#connections) connection.destroy();
    await closed;
  }
}
