// Attacks on the HTTP side: A1 and so on are the rows of docs/attacks.md.

import assert from 'node:assert/strict';
import { apiKey, reference } from '../lib/program.mjs';
import { assertRefusal, assertStatus, RawConnection, rawRequest, request, requestBytes } from '../lib/http.mjs';
import { PollingSession, SOCKETIO, WsClient } from '../lib/engine.mjs';
import { RawWs, upgradeHeaders } from '../lib/rawws.mjs';
import { attacks, openFiles, withinMemory } from '../lib/hostile.mjs';
import { refusal } from '../lib/jwt.mjs';
import { brief, until } from '../lib/wait.mjs';

const attack = attacks();
const handshake = `${SOCKETIO}?EIO=4&transport=polling`;
const KEY = 'AAAAAAAAAAAAAAAAAAAAAA==';

attack('A1 upgrade of an EIO=4 session with EIO=3 or none is refused; the session keeps its revision', async (target) => {
  const session = await PollingSession.open(target);
  for (const eio of ['EIO=3&', '']) {
    const raw = await RawWs.handshake(target, { query: `?${eio}transport=websocket&sid=${session.sid}` });
    if (!reference) assertStatus(raw.opening, 400, `upgrade with ${eio || 'no EIO'}`);
    if (raw.opening.status === 101) await raw.send({ payload: '2probe' });
    raw.destroy();
  }
  const posted = await session.post('3');
  assertStatus(posted, reference ? [200, 400] : 200, 'a pong of the session\'s own revision');
  const wrong = await session.post('2');
  assertStatus(wrong, [200, 400], 'a ping as EIO=3 clients send it');
  await session.goneWithin(3000, 'a ping from the client');
});

attack('A2 sid and transport names of the object prototype', async (target) => {
  for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty', '', '%00', '..%2f', 'a'.repeat(4000)]) {
    const response = await request(target, `${handshake}&sid=${name}`);
    if (name === '') assertStatus(response, [200, 400], 'empty sid');
    else assertRefusal(response, 400, 1, `sid ${brief(name)}`);
    const raw = await RawWs.handshake(target, { query: `?EIO=4&transport=websocket&sid=${name}` });
    if (name !== '') assertStatus(raw.opening, 400, `WebSocket with sid ${brief(name)}`);
    raw.destroy();
  }
});

attack('A3 POST of octets whose connection is left hanging: 400 at once, session closed, no file kept', async (target) => {
  const before = openFiles(target);
  const hanging = [];
  for (let i = 0; i < 100; i += 1) {
    const session = await PollingSession.open(target);
    const connection = await RawConnection.open(target);
    hanging.push(connection);
    await connection.write(requestBytes('POST', session.query, { 'Content-Type': 'application/octet-stream', 'Content-Length': '1000' }));
    const response = await connection.response({ what: 'the answer to the head of a POST of octets' });
    assertStatus(response, 400, 'POST of octets');
    await session.assertGone('after a POST of octets');
    session.drop();
  }
  if (!reference) {
    await until(5000, 'the hanging connections are closed by the server', () => openFiles(target), (now) => now <= before + 12);
  }
  for (const connection of hanging) connection.destroy();
});

attack('A4, A14 transport webtransport, __proto__, constructor: 400 code 0 by HTTP and by WebSocket', async (target) => {
  for (const name of ['webtransport', '__proto__', 'constructor', 'polling%00', 'POLLING']) {
    assertRefusal(await request(target, `${SOCKETIO}?EIO=4&transport=${name}`), 400, 0, `transport ${name}`);
    const raw = await RawWs.handshake(target, { query: `?EIO=4&transport=${name}` });
    assertStatus(raw.opening, 400, `WebSocket with transport ${name}`);
    raw.destroy();
  }
});

attack('A11 an upgrade request with thousands of headers: 431 (or 400), never a crash', async (target) => {
  const extra = Object.fromEntries(Array.from({ length: 3000 }, (_, i) => [`X-${i}`, 'y']));
  const connection = await RawConnection.open(target);
  await connection.write(requestBytes('GET', `${SOCKETIO}?EIO=4&transport=websocket`, upgradeHeaders(KEY, extra)));
  const response = await connection.response({ what: 'the answer to 3000 headers' });
  assertStatus(response, 431, '3000 headers');
  await connection.closed(3000, 'TCP is closed after 431');
});

attack('A11 one header of 100 kB, a request line of 100 kB: 431, 414 or 400', async (target) => {
  for (const bytes of [
    requestBytes('GET', handshake, { 'X-Long': 'a'.repeat(100000) }),
    requestBytes('GET', `${handshake}&a=${'a'.repeat(100000)}`),
  ]) {
    const connection = await RawConnection.open(target);
    connection.write(bytes);
    const response = await connection.response({ what: 'the answer to a head of 100 kB' });
    assertStatus(response, [431, 414, 400], 'a head of 100 kB');
    connection.destroy();
  }
});

attack('A15 Upgrade: h2c and others on any path, then RST: prompt close, no crash', async (target) => {
  for (const path of ['/other/', '/', handshake, '/api/v1/websocket/stats']) {
    for (const upgrade of ['h2c', 'TLS/1.0', 'websocket, h2c', '']) {
      const connection = await RawConnection.open(target);
      await connection.write(requestBytes('GET', path, { Connection: 'Upgrade, HTTP2-Settings', Upgrade: upgrade, 'HTTP2-Settings': 'AAMAAABkAAQAoAAAAAIAAAAA' }));
      connection.reset();
      const other = await RawConnection.open(target);
      await other.write(requestBytes('GET', path, { Connection: 'close, Upgrade', Upgrade: upgrade }));
      const bytes = await other.closed(3000, `${path} with Upgrade: ${upgrade}: answered and closed`);
      assert.ok(!bytes.toString('latin1').startsWith('HTTP/1.1 101'), `${path} with Upgrade: ${upgrade}: no 101`);
    }
  }
});

attack('A18 a POST of 100 MB is answered 413 while it streams, within 32 MiB', async (target) => {
  for (const headers of [{ 'Transfer-Encoding': 'chunked' }, { 'Content-Length': '100000000' }]) {
    const session = await PollingSession.open(target);
    await withinMemory(target, 32, '100 MB by POST', async () => {
      const connection = await RawConnection.open(target);
      await connection.write(requestBytes('POST', session.query, headers));
      const data = Buffer.alloc(65536, '4');
      const piece = headers['Content-Length'] ? data : Buffer.concat([Buffer.from('10000\r\n'), data, Buffer.from('\r\n')]);
      let sent = 0;
      const sending = (async () => {
        while (sent < 1500 && !connection.ended && (await connection.write(piece))) sent += 1;
      })();
      const response = await connection.response({ what: 'an answer while 100 MB are being sent', ms: 10000 }).catch((error) => {
        if (!['ECONNRESET', 'EPIPE'].includes(connection.error?.code)) throw error;
      });
      if (response) assertStatus(response, 413, '100 MB by POST');
      connection.destroy();
      await sending;
      assert.ok(sent < 1400, `413 comes while the body streams, not at its end (${sent} of 1526 pieces were taken)`);
    });
    if (!reference) await session.assertGone('after 413');
  }
});

attack('A18 half a million packets in one payload: refused by their number', async (target) => {
  if (reference) return;
  for (const packet of ['3', '6']) {
    const session = await PollingSession.open(target);
    const response = await session.post(Array.from({ length: 499999 }, () => packet).join('\x1e'), { ms: 5000 });
    assertStatus(response, [400, 413], `499999 packets ${packet}`);
    await session.assertGone('after too many packets');
  }
});

attack('A20, A21 WebSocket with a foreign Origin and a cookie: `*` in development only (refusals: wire/cors T72, T73)', async (target) => {
  const raw = await RawWs.handshake(target, { headers: { Origin: 'https://evil.example.net', Cookie: 'session=stolen' } });
  assertStatus(raw.opening, 101, 'development allows every origin');
  // The cookie identifies nobody: without a token there is no socket.
  await raw.next('the open packet');
  await raw.send({ payload: '40' });
  assert.equal(await raw.nextText('the answer to CONNECT'), refusal('token_missing'));
  raw.destroy();
});

attack('A22 session ids: 3000 of them differ in their last 12 characters, and every place there takes many values', async (target) => {
  const sids = [];
  for (let i = 0; i < 30; i += 1) {
    sids.push(...(await Promise.all(Array.from({ length: 100 }, async () => JSON.parse((await request(target, handshake)).text.slice(1)).sid))));
  }
  assert.equal(new Set(sids.map((sid) => sid.slice(8))).size, sids.length, 'random parts differ');
  for (let place = 8; place < 20; place += 1) {
    const values = new Set(sids.map((sid) => sid[place]));
    assert.ok(values.size > 50, `place ${place} takes ${values.size} of 64 values`);
  }
});

attack('A23 Sec-WebSocket-Protocol with 32000 spaces: answered at once', async (target) => {
  const begun = performance.now();
  const raw = await RawWs.handshake(target, { headers: { 'Sec-WebSocket-Protocol': `b${' '.repeat(32000)}x` } });
  assertStatus(raw.opening, [431, 400, 101], '32000 spaces');
  assert.ok(performance.now() - begun < 1000, 'within a second');
  raw.destroy();
});

attack('A24 Sec-WebSocket-Extensions: constructor and malformed parameters are passed over', async (target) => {
  for (const value of ['constructor', '__proto__', 'permessage-deflate; =', ';;;,,,"', 'permessage-deflate; server_max_window_bits=99999999999', 'a; b="unterminated']) {
    const raw = await RawWs.handshake(target, { headers: { 'Sec-WebSocket-Extensions': value } });
    assertStatus(raw.opening, reference ? [101, 400] : 101, `extensions ${value}`);
    assert.equal(raw.opening.headers['sec-websocket-extensions'], undefined, `extensions ${value}`);
    raw.destroy();
  }
});

attack('A28 a head that comes byte by byte and never ends: 431 by its size', async (target) => {
  const connection = await RawConnection.open(target);
  await connection.write(`GET ${SOCKETIO}?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nX-Long: `);
  const begun = performance.now();
  for (let i = 0; i < 70000 && !connection.ended && connection.pending.length === 0; i += 1) await connection.write('a');
  // With bytes still on their way the kernel may turn the close into a reset, which swallows the answer.
  const response = await connection.response({ what: 'the answer to an endless head' }).catch((error) => {
    if (!['ECONNRESET', 'EPIPE'].includes(connection.error?.code)) throw error;
  });
  if (response) assertStatus(response, [431, 400], 'an endless head');
  assert.ok(performance.now() - begun < 15000, 'no quadratic parsing');
  connection.destroy();
});

attack('A30 a WebSocket handshake with a body and a second request in it: refused, the second one is never answered', async (target) => {
  const smuggled = requestBytes('GET', '/api/v1/websocket/stats', { 'x-api-key': apiKey });
  for (const headers of [{ 'Content-Length': String(smuggled.length) }, { 'Transfer-Encoding': 'chunked' }]) {
    const connection = await RawConnection.open(target);
    const body = headers['Content-Length'] ? smuggled : Buffer.concat([Buffer.from(`${smuggled.length.toString(16)}\r\n`), smuggled, Buffer.from('\r\n0\r\n\r\n')]);
    await connection.write(Buffer.concat([requestBytes('GET', `${SOCKETIO}?EIO=4&transport=websocket`, upgradeHeaders(KEY, headers)), body]));
    const response = await connection.response({ what: 'the answer to a handshake with a body' });
    if (!reference) {
      assertStatus(response, 400, 'a handshake with a body');
      const rest = await connection.closed(3000, 'TCP is closed after the refusal');
      assert.equal(rest.length, 0, `nothing more is answered, got ${brief(rest.toString('latin1'))}`);
    }
    connection.destroy();
  }
});

attack('A31 many upgrades that never go on: each is closed by upgradeTimeout, the sessions go on', async (target) => {
  const sessions = await Promise.all(Array.from({ length: 30 }, () => PollingSession.open(target)));
  const clients = await Promise.all(sessions.map((session) => WsClient.open(`${target.wsUrl}${SOCKETIO}?EIO=4&transport=websocket&sid=${session.sid}`)));
  clients.forEach((client, at) => {
    if (at % 2) client.send('2probe');
  });
  await Promise.all(clients.map((client) => client.closed('an upgrade that never goes on', 3000)));
  for (const session of sessions) session.drop();
});

attack('more than one upgrade per sid at once: one wins', async (target) => {
  const session = await PollingSession.open(target);
  const clients = Array.from({ length: 20 }, () => new WsClient(`${target.wsUrl}${SOCKETIO}?EIO=4&transport=websocket&sid=${session.sid}`));
  for (const client of clients) client.opened.then(() => client.send('2probe'), () => {});
  const winners = [];
  await Promise.all(clients.map(async (client) => {
    const first = await client.next('3probe or the end').catch(() => null);
    if (first === '3probe') winners.push(client);
    else await client.closed('a loser');
  }));
  assert.equal(winners.length, 1, `one probe is answered, got ${winners.length}`);
  winners[0].send('5');
  winners[0].send('40');
  await winners[0].expect(refusal('token_missing'));
});

attack('request smuggling: contradicting or broken lengths are refused and nothing after them is read', async (target) => {
  const session = await PollingSession.open(target);
  for (const head of [
    'Content-Length: 1\r\nTransfer-Encoding: chunked\r\n',
    'Content-Length: 1\r\nContent-Length: 2\r\n',
    'Content-Length: -1\r\n', 'Content-Length: +1\r\n', 'Content-Length: 1x\r\n', 'Content-Length: 99999999999999999999\r\n', 'Content-Length : 1\r\n',
    'Transfer-Encoding: xchunked\r\n', 'Transfer-Encoding: chunked, identity\r\n',
    ' Folded: x\r\n', 'NoColon\r\n', 'Bad\x00Name: x\r\n',
  ]) {
    const connection = await RawConnection.open(target);
    await connection.write(Buffer.from(`POST ${session.path}?EIO=4&transport=polling&sid=nobody HTTP/1.1\r\nHost: x\r\n${head}\r\n3GET /health HTTP/1.1\r\nHost: x\r\n\r\n`, 'latin1'));
    const bytes = await connection.closed(5000, `${brief(head)}: refused and closed`);
    const text = bytes.toString('latin1');
    assert.match(text, /^HTTP\/1\.1 (400|413|501) /, `${brief(head)}: got ${brief(text)}`);
    assert.equal(text.match(/HTTP\/1\.1 /g).length, 1, `${brief(head)}: one answer only, got ${brief(text)}`);
  }
  session.drop();
});

attack('garbage instead of HTTP', async (target) => {
  for (const bytes of ['\r\n\r\n\r\n', 'GET\r\n\r\n', 'GET / HTTP/9.9\r\n\r\n', `\x16\x03\x01\x02\x00\x01${'\x00'.repeat(200)}`, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', `${'\x00'.repeat(20000)}`, 'GET /socket.io/?EIO=4&transport=polling HTTP/1.1\nHost: x\n\n']) {
    const connection = await RawConnection.open(target);
    await connection.write(Buffer.from(bytes, 'latin1'));
    connection.socket.end();
    await connection.closed(5000, `garbage ${brief(bytes.slice(0, 20))}: closed`);
  }
});

attack('wrong methods on a live session and HEAD everywhere', async (target) => {
  const session = await PollingSession.open(target);
  for (const method of ['PUT', 'DELETE', 'PATCH', 'HEAD']) {
    const response = await rawRequest(target, requestBytes(method, session.query, method === 'HEAD' ? {} : { 'Content-Length': '0' }), { method });
    assertStatus(response, reference ? [400, 405, 500] : [400, 405], `${method} with a live sid`);
  }
  for (const path of ['/', '/health', handshake, '/api/v1/websocket/stats']) {
    const connection = await RawConnection.open(target);
    await connection.write(requestBytes('HEAD', path, { Connection: 'close' }));
    const bytes = (await connection.closed(3000, `HEAD ${path}`)).toString('latin1');
    assert.match(bytes, /^HTTP\/1\.1 \d{3} [^]*\r\n\r\n$/, `HEAD ${path} has no body, got ${brief(bytes)}`);
  }
  await session.end();
});

attack('invalid UTF-8 in a polling payload never crashes and never passes as valid', async (target) => {
  for (const bytes of [[0x34, 0xff], [0x34, 0x32, 0x5b, 0x22, 0xc0, 0x80, 0x22, 0x5d], [0xf0, 0x9f]]) {
    const session = await PollingSession.open(target);
    const response = await session.post(Buffer.from(bytes));
    assertStatus(response, reference ? [200, 400] : 400, `POST of ${Buffer.from(bytes).toString('hex')}`);
    session.drop();
  }
});

attack('a thousand polling sessions that nobody claims expire by themselves', async (target) => {
  for (let i = 0; i < 10; i += 1) await Promise.all(Array.from({ length: 100 }, () => request(target, handshake)));
});
