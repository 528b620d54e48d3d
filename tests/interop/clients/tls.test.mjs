// TLS of its own, by OpenSSL as Node has it: the stock client over https and wss, what is agreed on, and what is not.

import assert from 'node:assert/strict';
import tls from 'node:tls';
import { after, afterEach, before, test } from 'node:test';
import { emit } from '../lib/api.mjs';
import { certify } from '../lib/certificate.mjs';
import { Client, closeClients, transportChoices } from '../lib/client.mjs';
import { tokenFor } from '../lib/jwt.mjs';
import { startSockring } from '../lib/program.mjs';
import { within } from '../lib/wait.mjs';

let certificate;
let target;
let api;
let ca;

before(async () => {
  certificate = certify('DNS:localhost', 'IP:127.0.0.1');
  ca = certificate.cert;
  target = await startSockring({
    SOCKRING_TLS_CERT_FILE: certificate.certFile,
    SOCKRING_TLS_KEY_FILE: certificate.keyFile,
    SOCKRING_API_LISTEN: '127.0.0.1:0',
  });
  const address = /The API and the metrics are on (http:\/\/\S+)/;
  await within(5000, 'the API says where it is', (async () => {
    while (!address.test(target.said())) await new Promise((resolve) => setTimeout(resolve, 5));
  })());
  const url = new URL(address.exec(target.said())[1]);
  api = { ...target, url: url.origin, port: Number(url.port) };
});
afterEach(closeClients);
after(async () => {
  await target?.stop();
  certificate?.remove();
});

const TIME = { timeout: 60_000 };

for (const version of ['4.8.4', '3.0.0']) {
  for (const [words, transports] of transportChoices) {
    test(`socket.io-client ${version} over TLS, ${words}`, TIME, async () => {
      const user = `tls-${version}-${words}`;
      const client = await Client.connected(version, target, { token: tokenFor(user), transports, ca });
      assert.equal((await emit(api, { user, event: 'news', data: { text: 'x'.repeat(100_000) } })).delivered, 1);
      assert.equal((await client.event('news')).text.length, 100_000);
    });
  }
}

/** What is agreed on, or the error. */
const agree = (options) => within(5000, 'a handshake ends', new Promise((resolve) => {
  const socket = tls.connect({ host: '127.0.0.1', port: target.port, ca, ...options }, () => {
    resolve({ socket, version: socket.getProtocol(), cipher: socket.getCipher().standardName, alpn: socket.alpnProtocol });
    socket.end();
  });
  socket.on('error', (error) => resolve({ error: error.code ?? error.message }));
}));

const OFFERED = {
  'TLSv1.3': ['TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256'],
  'TLSv1.2': ['ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-AES256-GCM-SHA384', 'ECDHE-ECDSA-CHACHA20-POLY1305'],
};
const NOT_OFFERED = {
  TLSv1: ['ECDHE-ECDSA-AES128-SHA'],
  'TLSv1.1': ['ECDHE-ECDSA-AES128-SHA'],
  // Without forward secrecy, without authenticated encryption, or without any.
  'TLSv1.2': [
    'ECDHE-ECDSA-AES128-SHA', 'ECDHE-ECDSA-AES128-SHA256', 'ECDHE-ECDSA-AES256-SHA384', 'AES128-SHA', 'AES128-GCM-SHA256',
    'DHE-RSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-NULL-SHA', 'AECDH-AES128-SHA', 'ECDHE-ECDSA-AES128-CCM', 'ECDHE-ECDSA-CAMELLIA128-SHA256',
  ],
};

test('versions and ciphers: what every scanner of TLS wants, and nothing else', TIME, async () => {
  for (const [version, ciphers] of Object.entries(OFFERED)) {
    for (const cipher of ciphers) {
      const agreed = await agree({ minVersion: version, maxVersion: version, ciphers: cipher, ALPNProtocols: ['h2', 'http/1.1'] });
      assert.deepEqual([agreed.version, agreed.alpn], [version, 'http/1.1'], `${cipher}: ${agreed.error}`);
    }
  }
  for (const [version, ciphers] of Object.entries(NOT_OFFERED)) {
    for (const cipher of ciphers) {
      const agreed = await agree({ minVersion: version, maxVersion: version, ciphers: `${cipher}:@SECLEVEL=0` });
      assert.match(agreed.error ?? agreed.version, /ALERT_PROTOCOL_VERSION|HANDSHAKE_FAILURE/, `${version} ${cipher}`);
    }
  }
  const h2 = await agree({ ALPNProtocols: ['h2'] });
  assert.match(h2.error ?? h2.alpn, /NO_APPLICATION_PROTOCOL/);
  const curves = await agree({ ecdhCurve: 'secp521r1' });
  assert.match(curves.error ?? curves.version, /HANDSHAKE_FAILURE/);
});

test('renegotiation is refused', TIME, async () => {
  const socket = tls.connect({ host: '127.0.0.1', port: target.port, ca, maxVersion: 'TLSv1.2' });
  await within(5000, 'a handshake', new Promise((resolve) => socket.once('secureConnect', resolve)));
  const error = await within(5000, 'an end of it', new Promise((resolve) => {
    socket.on('error', resolve);
    socket.renegotiate({ rejectUnauthorized: false }, resolve);
  }));
  assert.match(String(error?.code ?? error), /NO_RENEGOTIATION/);
  socket.destroy();
  target.assertAlive();
});
