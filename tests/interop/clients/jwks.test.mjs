// Tokens by keys that a login server publishes: rotated, late, away, worthless.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, describe, test } from 'node:test';
import { emit } from '../lib/api.mjs';
import { Client, closeClients } from '../lib/client.mjs';
import { request } from '../lib/http.mjs';
import { tokenFor } from '../lib/jwt.mjs';
import { KeyServer, SigningKey } from '../lib/keys.mjs';
import { apiKey, notOfReference, startSockring } from '../lib/program.mjs';
import { until } from '../lib/wait.mjs';

const VERSION = '4.8.4';
/** How long a CONNECT waits for a key, and how often keys are fetched at the most. */
const PATIENCE_MS = 2000;
const REST_MS = 10000;

after(closeClients);

/** A login server, and sockring with its keys. */
async function scene(t, keys, { tls = false, prepare = () => {}, env = () => ({}) } = {}) {
  const login = await KeyServer.start(keys, { tls });
  prepare(login);
  t.after(() => login.stop());
  const target = await startSockring({ SOCKRING_TOKEN_JWKS_URL: login.url, SOCKRING_TOKEN_JWKS_REFRESH_S: '10', ...env(login) });
  // Clients of other scenes go on.
  t.after(() => target.stop());
  return { login, target };
}

const connected = (target, token, options = {}) => Client.connected(VERSION, target, { token, transports: ['websocket'], ...options });

/** The code by which a token is refused, and after how long. */
async function refused(target, token) {
  const client = await Client.create(VERSION, target, { token, transports: ['websocket'] });
  const error = await client.error();
  const begun = performance.now();
  client.socket.connect();
  const again = await client.error();
  await client.closed();
  assert.equal(error.message, 'Authentication failed');
  assert.deepEqual(again.data, error.data);
  return { code: error.data.code, ms: performance.now() - begun };
}

async function metric(target, line) {
  const text = (await request(target, '/metrics', { headers: { 'x-api-key': apiKey } })).text;
  return Number(text.split('\n').find((other) => other.startsWith(`${line} `))?.split(' ')[1]);
}

const BIN = process.env.SOCKRING_BIN ?? new URL('../../../target/release/sockring', import.meta.url).pathname;

/** What a command says; its status too. */
function command(args, env) {
  return new Promise((resolve) => {
    execFile(BIN, args, { env: { PATH: process.env.PATH, ...env } }, (error, stdout, stderr) => resolve({ code: error?.code ?? 0, said: stdout + stderr }));
  });
}

describe('keys that are published', { concurrency: true, ...notOfReference }, () => {
  test('each kind of key lets its user in, and who names no known one is refused without a wait', { timeout: 30000 }, async (t) => {
    const keys = ['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA'].map((alg) => new SigningKey(`key-${alg}`, alg));
    const oct = { kty: 'oct', kid: 'symmetric', k: Buffer.from('a secret that everybody can read').toString('base64url') };
    const { login, target } = await scene(t, [oct, ...keys], { tls: true, env: (login) => ({ SSL_CERT_FILE: login.certificate.certFile }) });
    // The first ones come before the keys do, or just behind them.
    await Promise.all(keys.map(async (key) => {
      const client = await connected(target, key.tokenFor(`user-${key.alg}`));
      assert.equal(client.welcome.userId, `user-${key.alg}`);
    }));
    await connected(target, tokenFor('by-secret'));
    const stranger = new SigningKey('stranger', 'ES256');
    const { code, ms } = await refused(target, stranger.tokenFor('eve'));
    assert.equal(code, 'key_unknown');
    assert.ok(ms < PATIENCE_MS / 2, `refused after ${ms} ms`);
    stranger.kid = keys[2].kid;
    assert.equal((await refused(target, stranger.tokenFor('eve'))).code, 'token_invalid');
    assert.equal(login.requests, 1);
    assert.equal(await metric(target, 'sockring_jwks_keys'), keys.length);
    const check = await command(['check'], { SOCKRING_TOKEN_JWKS_URL: login.url, SSL_CERT_FILE: login.certificate.certFile, PORT: '0' });
    assert.match(check.said, /token_jwks_url: https:.* has 1 EC P-256, 1 EC P-384, 1 Ed25519, 2 RSA; of no use: 1 symmetric/);
    const withoutAuthority = await command(['check'], { SOCKRING_TOKEN_JWKS_URL: login.url, PORT: '0' });
    assert.match(withoutAuthority.said, /FAIL {2}token_jwks_url: https:.*UnknownIssuer/);
    const valid = await command(['token', 'check', keys[0].tokenFor('somebody')], { SOCKRING_TOKEN_JWKS_URL: login.url, SSL_CERT_FILE: login.certificate.certFile });
    assert.match(valid.said, /valid: user `somebody`/);
    stranger.kid = 'stranger';
    const invalid = await command(['token', 'check', stranger.tokenFor('eve')], { SOCKRING_TOKEN_JWKS_URL: login.url, SSL_CERT_FILE: login.certificate.certFile });
    assert.match(invalid.said, /refused: the token's key is not known\n.*ES256, kid `stranger`.*token_jwks_url/);
  });

  test('a new key counts at the first token that names it, and the server that publishes it is asked once in ten seconds', { timeout: 40000 }, async (t) => {
    const [old, fresh] = ['old', 'fresh'].map((kid) => new SigningKey(kid, 'ES256'));
    const { login, target } = await scene(t, [old], { env: () => ({ SOCKRING_TOKEN_JWKS_REFRESH_S: '300' }) });
    const begun = performance.now();
    await connected(target, old.tokenFor('early'));
    login.keys = [fresh];
    assert.equal((await refused(target, fresh.tokenFor('late'))).code, 'key_unknown');
    assert.equal(login.requests, 1);
    await until(2 * REST_MS, 'the new key counts', async () => {
      const client = await Client.create(VERSION, target, { token: fresh.tokenFor('late'), transports: ['websocket'] });
      const first = await Promise.race([client.connects.next(5000, 'an answer'), client.errors.next(5000, 'an answer')]).finally(() => client.close());
      return typeof first === 'string';
    }, Boolean, 500);
    assert.ok(performance.now() - begun > REST_MS - 2000, 'it was asked again before');
    assert.equal(login.requests, 2);
    // It was taken back.
    assert.equal((await refused(target, old.tokenFor('early'))).code, 'key_unknown');
  });

  test('a server that takes its time lets those wait who need it, and nobody else; they get in wherever they are at home', { timeout: 30000 }, async (t) => {
    const key = new SigningKey('late', 'ES256');
    const held = [];
    const { login, target } = await scene(t, [key], {
      env: () => ({ SOCKRING_SHARDS: '3', SOCKRING_NAMESPACES: '/,/more' }),
      prepare(login) {
        login.answer = (response) => held.push(response);
      },
    });
    const waiting = Array.from({ length: 12 }, (_, number) => Client.create(VERSION, target, {
      token: key.tokenFor(`user-${number}`), transports: [['websocket'], ['polling'], ['polling', 'websocket']][number % 3],
    }));
    const clients = await Promise.all(waiting);
    // The second namespace waits behind the first one, and goes along.
    const more = await Promise.all(clients.map((client, number) => Client.create(VERSION, target, {
      token: key.tokenFor(`user-${number}`), namespace: '/more', manager: client.socket.io,
    })));
    const gone = await Promise.all([1, 2, 3].map(() => Client.create(VERSION, target, { token: key.tokenFor('gone'), transports: ['websocket'] })));
    await until(5000, 'all of them wait', () => metricSum(target, 'sockring_connects_waiting'), (waiting) => waiting >= clients.length * 2);
    gone.forEach((client) => client.close());
    const other = await connected(target, tokenFor('by-secret'));
    await emit(target, { event: 'meanwhile', data: 1, user: 'by-secret' });
    assert.equal(await other.event('meanwhile'), 1);
    // Where this machine took longer than they wait.
    for (const { socket } of [...clients, ...more]) socket.on('connect_error', () => socket.connect());
    held.forEach((response) => response.end(JSON.stringify({ keys: [key.jwk] })));
    for (const [number, client] of clients.entries()) assert.equal((await client.connectedNow()).userId, `user-${number}`);
    await Promise.all(more.map((client) => client.connectedNow()));
    for (const [number, client] of clients.entries()) {
      await emit(target, { event: 'there', data: number, user: `user-${number}` });
      assert.equal(await client.event('there'), number);
    }
    assert.equal(login.requests, 1);
    assert.equal(await metricSum(target, 'sockring_connects_waiting'), 0);
  });

  test('after two seconds without an answer a client is refused, and let in when it has come', { timeout: 30000 }, async (t) => {
    const key = new SigningKey('slow', 'ES256');
    const held = [];
    const { login, target } = await scene(t, [key], {
      prepare(login) {
        login.answer = (response) => held.push(response);
      },
    });
    const answer = (response) => response.end(JSON.stringify({ keys: login.keys.map(({ jwk }) => jwk) }));
    const client = await Client.create(VERSION, target, { token: key.tokenFor('patient'), transports: ['websocket'] });
    const begun = performance.now();
    const error = await client.error();
    const ms = performance.now() - begun;
    assert.equal(error.data.code, 'key_unknown');
    assert.ok(ms > PATIENCE_MS / 2 && ms < PATIENCE_MS * 2, `refused after ${ms} ms`);
    login.answer = answer;
    held.forEach(answer);
    // As an application does that is told to try again.
    client.socket.on('connect_error', () => client.socket.connect());
    client.socket.connect();
    assert.equal((await client.connectedNow()).userId, 'patient');
  });

  test('keys that are known count on while they cannot be fetched, and the log says so once', { timeout: 60000 }, async (t) => {
    const key = new SigningKey('known', 'ES256');
    const { login, target } = await scene(t, [key]);
    await connected(target, key.tokenFor('first'));
    const troubles = [
      (response) => response.writeHead(503).end('later'),
      (response) => response.end('<html>It works!</html>'),
    ];
    login.answer = (response) => troubles[login.requests % 2](response);
    const failed = async () => (await metric(target, 'sockring_jwks_fetches_total{result="refused"}')) + (await metric(target, 'sockring_jwks_fetches_total{result="unusable"}'));
    await until(3 * REST_MS, 'two fetches fail', failed, (count) => count === 2, 200);
    await connected(target, key.tokenFor('second'));
    assert.equal(target.said().split('cannot be fetched').length, 2, target.said());
  });

  test('what is no set of keys is told as such', { timeout: 30000 }, async (t) => {
    const key = new SigningKey('k', 'ES256');
    const login = await KeyServer.start([key]);
    t.after(() => login.stop());
    const { answer } = login;
    const check = async () => {
      const { code, said } = await command(['check'], { SOCKRING_TOKEN_JWKS_URL: login.url, PORT: '0' });
      return `${code} ${said.split('\n').find((line) => line.includes('token_jwks_url'))}`;
    };
    assert.match(await check(), /^0 ok {4}token_jwks_url: .* has 1 EC P-256$/);
    for (const [trouble, words] of [
      [(response) => response.end('garbage'), /^1 FAIL .*no JSON object with a list `keys`/],
      [(response) => response.end(JSON.stringify({ keys: Array(129).fill(key.jwk) })), /more than 128 keys/],
      [(response) => response.end(JSON.stringify({ keys: [key.jwk], more: 'x'.repeat(300000) })), /more than 262144 bytes/],
      [(response) => response.writeHead(404).end(), /it answers 404/],
      [(response) => response.end(JSON.stringify({ keys: [{ kty: 'oct', k: 'AAAA' }] })), /none of its keys can be used: 1 symmetric/],
      [(response) => response.destroy(), /FAIL/],
    ]) {
      login.answer = trouble;
      assert.match(await check(), words);
    }
    login.answer = answer;
    await login.stop();
    assert.match(await check(), /^1 FAIL .*refused/);
  });
});

/** Of all shards. */
async function metricSum(target, name) {
  const text = (await request(target, '/metrics', { headers: { 'x-api-key': apiKey } })).text;
  return text.split('\n').filter((line) => line.startsWith(`${name}{`)).reduce((sum, line) => sum + Number(line.split(' ')[1]), 0);
}
