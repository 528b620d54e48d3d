// CORS rows T70 to T73 of docs/wire.md, on `sockring serve`.

import assert from 'node:assert/strict';
import { apiKey, reference, startSockring } from '../lib/program.mjs';
import { assertRefusal, assertStatus, request } from '../lib/http.mjs';
import { PollingSession, SOCKETIO, WsClient } from '../lib/engine.mjs';
import { RawWs } from '../lib/rawws.mjs';
import { suite } from '../lib/suite.mjs';

const HANDSHAKE = `${SOCKETIO}?EIO=4&transport=polling`;
const OURS = 'https://app.example.com';
const OTHER = 'http://localhost:3000';
const FOREIGN = 'https://evil.example.net';

/** Each row has a server of its own, with this CORS_ORIGIN (undefined: not set). */
const row = suite(async () => ({ assertAlive() {}, async stop() {} }));
function cors(name, env, body) {
  row(name, async () => {
    const target = await startSockring(env);
    try {
      await body(target);
    } finally {
      await target.stop();
    }
  });
}

const preflight = (target, origin) => request(target, HANDSHAKE, {
  method: 'OPTIONS',
  headers: { Origin: origin, 'Access-Control-Request-Method': 'POST', 'Access-Control-Request-Headers': 'x-one,content-type' },
});

function assertPreflight(response, origin, what) {
  assertStatus(response, 204, what);
  assert.equal(response.headers['access-control-allow-origin'], origin, `${what}: Access-Control-Allow-Origin`);
  assert.equal(response.headers['access-control-allow-methods'], 'GET,HEAD,PUT,PATCH,POST,DELETE', `${what}: methods`);
  assert.equal(response.headers['access-control-allow-headers'], 'x-one,content-type', `${what}: headers as requested`);
  assert.equal(response.headers['content-length'], '0', `${what}: content-length`);
  assert.match(response.headers.vary ?? '', /Access-Control-Request-Headers/i, `${what}: Vary`);
  assert.equal(response.body.length, 0);
}

cors('T70 preflight with *: 204, no credentials header', { CORS_ORIGIN: '*' }, async (target) => {
  const response = await preflight(target, OURS);
  assertPreflight(response, '*', 'preflight');
  assert.equal(response.headers['access-control-allow-credentials'], undefined, 'no credentials together with *');
});

cors('T71 * on 200, on 400 errors, on POST, with and without Origin', { CORS_ORIGIN: '*' }, async (target) => {
  for (const headers of [{ Origin: OURS }, {}]) {
    const what = headers.Origin ? 'with Origin' : 'without Origin';
    const session = await PollingSession.open(target, { headers });
    for (const [name, response] of [
      ['handshake', session.opening],
      ['POST', await session.post('3', { headers })],
      ['400 code 1', await request(target, `${HANDSHAKE}&sid=nobody`, { headers })],
      ['400 code 0', await request(target, `${SOCKETIO}?EIO=4`, { headers })],
    ]) {
      assert.equal(response.headers['access-control-allow-origin'], '*', `${name} ${what} (status ${response.status})`);
      assert.equal(response.headers['access-control-allow-credentials'], undefined, `${name} ${what}: no credentials together with *`);
    }
    await session.end();
  }
});

cors('T72 list: allowed origin echoed with credentials and Vary: Origin', { CORS_ORIGIN: `${OURS}, ${OTHER}` }, async (target) => {
  for (const origin of [OURS, OTHER]) {
    const response = await preflight(target, origin);
    assertPreflight(response, origin, `preflight from ${origin}`);
    assert.equal(response.headers['access-control-allow-credentials'], 'true', `preflight from ${origin}: credentials`);
    assert.match(response.headers.vary, /\bOrigin\b/i, `preflight from ${origin}: Vary: Origin`);
    const session = await PollingSession.open(target, { headers: { Origin: origin } });
    for (const [name, one] of [['handshake', session.opening], ['POST', await session.post('3', { headers: { Origin: origin } })]]) {
      assert.equal(one.headers['access-control-allow-origin'], origin, name);
      assert.equal(one.headers['access-control-allow-credentials'], 'true', name);
      assert.match(one.headers.vary ?? '', /\bOrigin\b/i, `${name}: Vary`);
    }
    await session.end();
    const client = await WsClient.session(target, { origin });
    client.terminate();
  }
});

cors('T72 list: foreign origin gets no CORS headers; its handshakes are refused with code 4', { CORS_ORIGIN: `${OURS},${OTHER}` }, async (target) => {
  const answer = await preflight(target, FOREIGN);
  assertStatus(answer, [200, 204, 403], 'preflight from a foreign origin');
  assert.equal(answer.headers['access-control-allow-origin'], undefined, 'preflight from a foreign origin');
  for (const origin of [FOREIGN, 'null', `${OURS}.evil.net`, `${OURS}:444`, 'http://app.example.com', 'https://APP.example.com.']) {
    const response = await request(target, HANDSHAKE, { headers: { Origin: origin } });
    assertRefusal(response, 403, 4, `polling handshake from ${origin}`);
    assert.equal(response.headers['access-control-allow-origin'], undefined, `polling handshake from ${origin}`);
    const raw = await RawWs.handshake(target, { headers: { Origin: origin } });
    assertStatus(raw.opening, reference ? [400, 403] : 403, `WebSocket handshake from ${origin}`);
    await raw.connection.closed(2000, `WebSocket handshake from ${origin}: TCP is closed`);
  }
  const session = await PollingSession.open(target);
  await session.end();
});

cors('T73 nothing configured in production: OPTIONS is 400 code 2 without CORS headers, foreign handshakes 403', { SOCKRING_ENV: 'production' }, async (target) => {
  const response = await preflight(target, OURS);
  assertRefusal(response, 400, 2, 'OPTIONS handshake');
  assert.equal(response.headers['access-control-allow-origin'], undefined);
  assertRefusal(await request(target, HANDSHAKE, { headers: { Origin: FOREIGN } }), 403, 4, 'handshake from a foreign origin');
  const session = await PollingSession.open(target);
  assert.equal(session.opening.headers['access-control-allow-origin'], undefined);
  await session.end();
  if (!reference) {
    const own = await PollingSession.open(target, { headers: { Origin: target.url, Host: `127.0.0.1:${target.port}` } });
    await own.end();
  }
});

cors('development without CORS_ORIGIN is *', {}, async (target) => {
  const session = await PollingSession.open(target, { headers: { Origin: FOREIGN } });
  assert.equal(session.opening.headers['access-control-allow-origin'], '*');
  await session.end();
});

cors('API routes send no CORS headers', { CORS_ORIGIN: '*' }, async (target) => {
  const response = await request(target, '/api/v1/websocket/stats', { headers: { Origin: OURS, 'x-api-key': apiKey } });
  assertStatus(response, 200, 'GET stats');
  assert.equal(response.headers['access-control-allow-origin'], undefined, 'GET stats');
  const answer = await request(target, '/api/v1/websocket/emit', { method: 'OPTIONS', headers: { Origin: OURS, 'Access-Control-Request-Method': 'POST' } });
  assert.equal(answer.headers['access-control-allow-origin'], undefined, 'preflight of emit');
});
