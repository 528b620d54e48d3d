// Transport rows T01 to T46 and T60 to T66 of docs/wire.md, on `echo --layer socketio`.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { reference, startEcho, startSockring, normalTimers, suiteTimers } from '../lib/program.mjs';
import { assertRefusal, assertStatus, rawRequest, RawConnection, request, requestBytes } from '../lib/http.mjs';
import { closesCleanly, PollingSession, SOCKETIO, WsClient } from '../lib/engine.mjs';
import { acceptOf, OP, RawWs, upgradeHeaders } from '../lib/rawws.mjs';
import { suite } from '../lib/suite.mjs';
import { brief } from '../lib/wait.mjs';

const row = suite(() => startEcho(normalTimers));
const MAX = 1000000;
const BUILDS = new URL('../node_modules/socket.io/client-dist/', import.meta.url);
const base = `${SOCKETIO}?`;

async function refused(target, cases) {
  for (const [method, query, code] of cases) {
    assertRefusal(await request(target, base + query, { method }), 400, code, `${method} ?${query}`);
  }
}

row('T01 unknown transport: code 0', (target) => refused(target, [['GET', 'EIO=4&transport=abc', 0]]));

row('T02 transport constructor, __proto__, webtransport: code 0', (target) => refused(target, [
  ['GET', 'EIO=4&transport=constructor', 0],
  ['GET', 'EIO=4&transport=__proto__', 0],
  ['GET', 'EIO=4&transport=webtransport', 0],
]));

row('T03 missing transport: code 0', (target) => refused(target, [['GET', 'EIO=4', 0]]));
row('T04 unknown sid, GET: code 1', (target) => refused(target, [['GET', 'EIO=4&transport=polling&sid=abcdefghijklmnopqrst', 1], ['GET', 'EIO=4&transport=polling&sid=x', 1]]));
row('T05 unknown sid, POST: code 1', (target) => refused(target, [['POST', 'EIO=4&transport=polling&sid=abcdefghijklmnopqrst', 1]]));

row('T06 sid __proto__, constructor: code 1', (target) => refused(target, [
  ['GET', 'EIO=4&transport=polling&sid=__proto__', 1],
  ['GET', 'EIO=4&transport=polling&sid=constructor', 1],
  ['POST', 'EIO=4&transport=polling&sid=__proto__', 1],
]));

row('T07 handshake with POST, PUT, DELETE, PATCH: code 2', (target) => refused(target, ['POST', 'PUT', 'DELETE', 'PATCH'].map((method) => [method, 'EIO=4&transport=polling', 2])));
row('T08 transport=websocket without Upgrade: code 3', (target) => refused(target, [['GET', 'EIO=4&transport=websocket', 3]]));
row('T09 EIO=3: code 5', (target) => refused(target, [['GET', 'EIO=3&transport=polling', 5]]));

row('T10 EIO missing, abc, 5, 04: code 5', (target) => refused(target, [
  ['GET', 'transport=polling', 5],
  ['GET', 'EIO=abc&transport=polling', 5],
  ['GET', 'EIO=5&transport=polling', 5],
  ['GET', 'EIO=04&transport=polling', 5],
]));

row('T11 order of the checks: transport, sid, method, EIO', (target) => refused(target, [
  ['POST', 'EIO=3&transport=abc&sid=x', 0],
  ['POST', 'EIO=3&transport=polling&sid=x', 1],
  ['POST', 'EIO=3&transport=polling', 2],
  ['GET', 'EIO=3&transport=polling', 5],
]));

async function upgradeRefused(target, query, text) {
  const raw = await RawWs.handshake(target, { query });
  assertStatus(raw.opening, 400, `WebSocket handshake ${query}`);
  if (text !== undefined) assert.equal(raw.opening.text, text, `WebSocket handshake ${query}: body`);
  assert.equal(raw.opening.headers.connection?.toLowerCase(), 'close', `WebSocket handshake ${query}: Connection: close`);
  await raw.connection.closed(2000, `WebSocket handshake ${query}: TCP is closed after the refusal`);
}

row('T12 WebSocket upgrade, unknown transport: 400 text, Connection: close, TCP closed', (target) => upgradeRefused(target, '?EIO=4&transport=abc', 'Transport unknown'));
row('T13 WebSocket upgrade, unknown sid: 400 text', (target) => upgradeRefused(target, '?EIO=4&transport=websocket&sid=abcdefghijklmnopqrst', 'Session ID unknown'));

row('T14 WebSocket upgrade with EIO=3, absent, abc: 400 before upgrading', async (target) => {
  for (const query of ['?EIO=3&transport=websocket', '?transport=websocket', '?EIO=abc&transport=websocket']) {
    const raw = await RawWs.handshake(target, { query });
    assertStatus(raw.opening, reference ? [400, 101] : 400, `WebSocket handshake ${query}`);
    const rest = await raw.connection.closed(2000, `WebSocket handshake ${query}: TCP is closed`);
    assert.ok(!rest.includes('"sid"'), `WebSocket handshake ${query}: no open packet, got ${brief(rest.toString('latin1'))}`);
  }
});

row('T15 polling sid with GET transport=websocket: code 3, session survives', async (target) => {
  const session = await PollingSession.open(target);
  await refused(target, [['GET', `EIO=4&transport=websocket&sid=${session.sid}`, 3]]);
  await session.assertAlive('after code 3');
  await session.end();
});

row('T16 WebSocket session asked over HTTP: code 3 (or 1), the WebSocket survives', async (target) => {
  const client = await WsClient.connected(target);
  for (const [method, body] of [['GET'], ['POST', '3']]) {
    const response = await request(target, `${base}EIO=4&transport=polling&sid=${client.sid}`, { method, body });
    assertStatus(response, 400, `${method} with the sid of a WebSocket session`);
    assert.ok((reference ? [3] : [3, 1]).includes(JSON.parse(response.text).code), `${method}: code 3, or 1 from another shard; got ${response.text}`);
  }
  await client.assertEchoes('the WebSocket survives');
});

row('T17 PUT, DELETE, PATCH with a live polling sid: 400, session survives', async (target) => {
  const session = await PollingSession.open(target);
  for (const method of ['PUT', 'DELETE', 'PATCH']) {
    const response = await request(target, session.query, { method });
    assertStatus(response, reference ? [400, 500] : 400, `${method} with a live sid`);
  }
  await session.assertAlive('after wrong methods');
  await session.end();
});

row('T18 POST ok: 200, body ok, text/html, content-length 2, no-store', async (target) => {
  const session = await PollingSession.open(target);
  const response = await session.post('40');
  assertStatus(response, 200, 'POST');
  assert.equal(response.text, 'ok');
  assert.equal(response.headers['content-type'], 'text/html');
  assert.equal(response.headers['content-length'], '2');
  assert.equal(response.headers['cache-control'], 'no-store');
  await session.end();
});

row('T19 GET ok: text/plain; charset=UTF-8, content-length, no-store, no set-cookie', async (target) => {
  const session = await PollingSession.open(target);
  await session.send('40');
  for (const [what, response] of [['handshake', session.opening], ['poll', await session.get()]]) {
    assertStatus(response, 200, what);
    assert.equal(response.headers['content-type'], 'text/plain; charset=UTF-8', what);
    assert.equal(Number(response.headers['content-length']), response.body.length, what);
    assert.equal(response.headers['cache-control'], 'no-store', what);
    assert.equal(response.headers['set-cookie'], undefined, what);
  }
  await session.end();
});

row('T20 sid: 20 url-safe base64 characters, unique; key order of the open packet', async (target) => {
  const sids = new Set();
  for (let i = 0; i < 200; i += 1) {
    const response = await request(target, `${base}EIO=4&transport=polling`);
    const value = JSON.parse(response.text.slice(1));
    assert.match(value.sid, /^[A-Za-z0-9_-]{20}$/);
    assert.deepEqual(Object.keys(value), ['sid', 'upgrades', 'pingInterval', 'pingTimeout', 'maxPayload']);
    sids.add(value.sid);
  }
  assert.equal(sids.size, 200, 'all sids differ');
  // 120 bits of which the last 24 may count up: the first 12 characters must differ too.
  assert.equal(new Set([...sids].map((sid) => sid.slice(0, 12))).size, 200, 'sids differ in their random part');
});

row('T21 POST application/octet-stream: 400, session closed', async (target) => {
  const session = await PollingSession.open(target);
  const response = await session.post(Buffer.from('40'), { headers: { 'Content-Type': 'application/octet-stream' } });
  assertStatus(response, 400, 'POST of octets');
  await session.assertGone('after a POST of octets');
});

row('T22 POST of maxPayload + 1 bytes: 413, empty body; the session ends', async (target) => {
  const session = await PollingSession.open(target);
  const response = await rawRequest(target, requestBytes('POST', session.query, {}, Buffer.alloc(MAX + 1, '4')), { what: 'the answer to a POST of maxPayload + 1 bytes' });
  assertStatus(response, 413, 'POST of maxPayload + 1 bytes');
  assert.equal(response.text, '', '413 has an empty body');
  if (!reference) await session.assertGone('after 413');
});

if (!reference) {
  row('T22 too long by Content-Length: 413 before any of the body is sent', async (target) => {
    const session = await PollingSession.open(target);
    const response = await rawRequest(target, requestBytes('POST', session.query, { 'Content-Length': String(MAX + 1) }), { what: 'the answer to the head of a POST that is too long' });
    assertStatus(response, 413, 'head of a POST of maxPayload + 1 bytes');
    await session.assertGone('after 413');
  });
}

row('T23 chunked POST over the limit: 413', async (target) => {
  const session = await PollingSession.open(target);
  const connection = await RawConnection.open(target);
  connection.write(requestBytes('POST', session.query, { 'Transfer-Encoding': 'chunked' }));
  const piece = Buffer.concat([Buffer.from('10000\r\n'), Buffer.alloc(65536, '4'), Buffer.from('\r\n')]);
  for (let i = 0; i < 16; i += 1) connection.write(piece);
  const response = await connection.response({ what: 'the answer to a chunked POST of 1048576 bytes that goes on' });
  assertStatus(response, 413, 'chunked POST over the limit');
  connection.destroy();
});

row('T24 POST of exactly maxPayload bytes is accepted', async (target) => {
  const session = await PollingSession.open(target);
  await session.connect();
  const frame = ['42["message","', '"]'];
  const text = 'a'.repeat(MAX - frame.join('').length);
  const body = frame.join(text);
  assert.equal(body.length, MAX);
  await session.send(body);
  assert.deepEqual(await session.poll(), [`42["message-back","${text}"]`]);
  await session.end();
});

row('T25 small chunked POST is accepted', async (target) => {
  const session = await PollingSession.open(target);
  await session.connect();
  const bytes = Buffer.concat([
    requestBytes('POST', session.query, { 'Transfer-Encoding': 'chunked' }),
    Buffer.from('5\r\n42["m\r\nb;ext=1\r\nessage","x"\r\n1\r\n]\r\n0\r\n\r\n'),
  ]);
  const response = await rawRequest(target, bytes, { what: 'the answer to a chunked POST' });
  assertStatus(response, 200, 'chunked POST');
  assert.equal(response.text, 'ok');
  assert.deepEqual(await session.poll(), ['42["message-back","x"]']);
  await session.end();
});

row('T26 overlapping POSTs: the second 400, session closed', async (target) => {
  const session = await PollingSession.open(target);
  const first = session.main;
  session.main = null;
  await first.write(requestBytes('POST', session.query, { 'Content-Length': '10' }));
  await first.write('40');
  const second = await session.post('3');
  assertStatus(second, 400, 'the second POST');
  await session.assertGone('after overlapping POSTs');
  first.destroy();
});

row('T27 overlapping GETs: the first ends with 1, the second 400, session closed', async (target) => {
  const session = await PollingSession.open(target);
  const first = await session.hold();
  const second = await session.get();
  assertStatus(second, reference ? [400, 500] : 400, 'the second GET');
  const response = await first.response({ what: 'the end of the first GET' });
  assertStatus(response, 200, 'the first GET');
  assert.equal(response.text, '1');
  await session.assertGone('after overlapping GETs');
});

row('T28 POST aborted half-way: session closed', async (target) => {
  for (const end of ['destroy', 'reset']) {
    const session = await PollingSession.open(target);
    const first = session.main;
    session.main = null;
    await first.write(requestBytes('POST', session.query, { 'Content-Length': '10' }));
    await first.write('40');
    first[end]();
    await session.goneWithin(2000, `POST cut half-way (${end})`);
  }
});

row('T29 pending GET whose TCP connection dies: session closed', async (target) => {
  for (const end of ['destroy', 'reset']) {
    const session = await PollingSession.open(target);
    const held = await session.hold();
    held[end]();
    await session.goneWithin(2000, `pending GET cut (${end})`);
  }
});

row('T30 POST of an invalid packet: 400, session closed', async (target) => {
  for (const body of ['abc', '7', '40\x1eabc', 'b!!!!']) {
    const session = await PollingSession.open(target);
    const response = await session.post(body);
    // The reference takes the broken base64 for an empty attachment and closes on that.
    assertStatus(response, reference ? [200, 400] : 400, `POST of ${brief(body)}`);
    if (!reference) await session.assertGone(`after ${brief(body)}`);
  }
});

row('T31 POST with an empty body: 400, session closed', async (target) => {
  const session = await PollingSession.open(target);
  const response = await session.post('');
  assertStatus(response, reference ? [200, 400] : 400, 'POST of nothing');
  await session.assertGone('after an empty POST');
});

row('T32 close packet by POST: pending GET ends with 6, POST ok, sid unknown', async (target) => {
  const session = await PollingSession.open(target);
  const held = await session.hold();
  const posted = await session.postAfter('1');
  assertStatus(posted, 200, 'POST of 1');
  assert.equal(posted.text, 'ok');
  const response = await held.response({ what: 'the end of the pending GET' });
  assertStatus(response, 200, 'the pending GET');
  assert.equal(response.text, '6');
  await session.assertGone('after the close packet');
});

row('T33 packets after 1 in the same payload are not processed', async (target) => {
  const session = await PollingSession.open(target);
  await session.connect();
  const held = await session.hold();
  await session.postAfter('1\x1e42["message","late"]');
  const response = await held.response({ what: 'the end of the pending GET' });
  assert.equal(response.text, '6', 'nothing but a noop');
  await session.assertGone('after the close packet');
});

row('T34 client ping 2 on ws: closed', async (target) => {
  const client = await WsClient.connected(target);
  client.send('2');
  await closesCleanly(client, 'client sent 2');
});

row('T35 direct ws 2probe: closed', async (target) => {
  const client = await WsClient.connected(target);
  client.send('2probe');
  await closesCleanly(client, 'client sent 2probe without an upgrade');
});

row('T36 unsolicited 3, 6, 0, 5 on ws are ignored', async (target) => {
  const client = await WsClient.connected(target);
  for (const packet of ['3', '6', '0', '5', '3probe', '0{}']) client.send(packet);
  await client.assertEchoes('after unsolicited packets');
});

row('T37 ws frames abc, empty, 7, 9x: closed', async (target) => {
  for (const packet of ['abc', '', '7', '9x']) {
    const client = await WsClient.connected(target);
    client.send(packet);
    await closesCleanly(client, `client sent ${brief(packet)}`);
  }
});

row('T38 ws message over maxPayload: 1009', async (target) => {
  const client = await WsClient.connected(target);
  client.send('4'.repeat(MAX + 1));
  assert.equal(await client.closed('a message of maxPayload + 1'), 1009);
});

row('T39 ws message of exactly maxPayload reaches the parser', async (target) => {
  const client = await WsClient.connected(target);
  client.send(`4${'a'.repeat(MAX - 1)}`);
  await closesCleanly(client, 'a message of maxPayload bytes that no parser takes');
  const other = await WsClient.connected(target);
  const text = 'a'.repeat(MAX - '42["message",""]'.length);
  other.send(`42["message","${text}"]`);
  assert.equal(await other.next('the echo of 1000000 bytes', 5000), `42["message-back","${text}"]`);
});

row('T40 101: no extension although offered, correct Sec-WebSocket-Accept', async (target) => {
  const raw = await RawWs.handshake(target, { headers: { 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits' } });
  assertStatus(raw.opening, 101, 'WebSocket handshake');
  assert.equal(raw.opening.headers['sec-websocket-accept'], acceptOf(raw.key));
  assert.equal(raw.opening.headers['sec-websocket-extensions'], undefined);
  assert.equal(raw.opening.headers['sec-websocket-protocol'], undefined);
  assert.equal(raw.opening.headers.upgrade?.toLowerCase(), 'websocket');
  assert.equal(raw.opening.headers.connection?.toLowerCase(), 'upgrade');
  raw.destroy();
});

row('T41 bad ws handshake: version 99 and 8 are 426 with Sec-WebSocket-Version: 13, missing or wrong key 400', async (target) => {
  for (const [headers, expected] of [
    [{ 'Sec-WebSocket-Version': '99' }, reference ? [400, 426] : [426]],
    [{ 'Sec-WebSocket-Version': '8' }, reference ? [101, 426] : [426]],
    [{ 'Sec-WebSocket-Version': null }, [400, 426]],
    [{ 'Sec-WebSocket-Key': null }, [400]],
    [{ 'Sec-WebSocket-Key': 'dG9vIHNob3J0' }, [400]],
  ]) {
    const raw = await RawWs.handshake(target, { headers });
    assertStatus(raw.opening, expected, `WebSocket handshake with ${JSON.stringify(headers)}`);
    if (raw.opening.status === 426 && !reference) assert.equal(raw.opening.headers['sec-websocket-version'], '13', JSON.stringify(headers));
    raw.destroy();
  }
});

row('T42 unmasked client frame: 1002', async (target) => {
  const raw = await RawWs.connected(target);
  await raw.send({ payload: '42["message","x"]', masked: false });
  const code = await raw.closed('an unmasked frame');
  assert.ok([1002, 1006].includes(code), `1002 expected, got ${code}`);
});

row('T43 close frame of the client is echoed with 1000', async (target) => {
  const raw = await RawWs.connected(target);
  await raw.send({ opcode: OP.close, payload: Buffer.from([0x03, 0xe8]) });
  assert.equal(await raw.closed('a close frame was sent'), 1000);
  await raw.connection.closed(3000, 'TCP is closed after the close handshake');
});

row('T44 ws PING is answered with PONG carrying the same payload', async (target) => {
  const raw = await RawWs.connected(target);
  for (const payload of ['', 'hello', 'x'.repeat(125)]) {
    await raw.send({ opcode: OP.ping, payload });
    const answer = await raw.next('a pong');
    assert.equal(answer.opcode, OP.pong);
    assert.equal(answer.payload.toString(), payload);
  }
  raw.destroy();
});

row('T45 fragmented ws text message is reassembled, with a ping between the fragments', async (target) => {
  const raw = await RawWs.connected(target);
  await raw.send({ fin: false, payload: '42["mess' });
  await raw.send({ fin: false, opcode: OP.continuation, payload: 'age","' });
  await raw.send({ opcode: OP.ping, payload: 'between' });
  await raw.send({ fin: true, opcode: OP.continuation, payload: 'whole"]' });
  assert.equal((await raw.next('the pong')).opcode, OP.pong);
  assert.equal(await raw.nextText('the echo'), '42["message-back","whole"]');
  raw.destroy();
});

row('T46 invalid UTF-8 in ws text: 1007', async (target) => {
  for (const bytes of [[0x34, 0xff], [0x34, 0xc0, 0x80], [0x34, 0xed, 0xa0, 0x80], [0x34, 0xe2, 0x82]]) {
    const raw = await RawWs.connected(target);
    await raw.send({ payload: Buffer.from(bytes) });
    assert.equal(await raw.closed(`text frame ${Buffer.from(bytes).toString('hex')}`), 1007);
  }
});

row('T60 path: prefix match; without the slash and elsewhere 404', async (target) => {
  assertStatus(await request(target, '/socket.io/foo/?EIO=4&transport=polling'), 200, '/socket.io/foo/');
  assertStatus(await request(target, '/socket.io?EIO=4&transport=polling'), 404, '/socket.io');
  assertStatus(await request(target, '/other/?EIO=4&transport=polling'), 404, '/other/');
});

row('T61 ws upgrade on a foreign path never becomes a session', async (target) => {
  const connection = await RawConnection.open(target);
  await connection.write(requestBytes('GET', '/other/?EIO=4&transport=websocket', upgradeHeaders('AAAAAAAAAAAAAAAAAAAAAA==')));
  const bytes = await connection.closed(3000, 'a WebSocket handshake on /other/: TCP is closed');
  assert.ok(!bytes.toString('latin1').startsWith('HTTP/1.1 101'), `no 101, got ${brief(bytes.toString('latin1'))}`);
});

row('T62 unknown query parameters are ignored; an encoded sid and a doubled one work', async (target) => {
  const session = await PollingSession.open(target, { query: '&t=Abc.0&b64=1&a=b&empty=&=x&&flag' });
  const encoded = `%${session.sid.charCodeAt(0).toString(16).toUpperCase()}${session.sid.slice(1)}`;
  const posted = await request(target, `${base}t=zzz&sid=${encoded}&transport=polling&EIO=4`, { method: 'POST', body: '40' });
  assertStatus(posted, 200, 'POST with a percent-encoded sid in another order of parameters');
  assert.match(await session.get().then((response) => response.text), /^40\{"sid"/);
  const doubled = await request(target, `${session.query}&sid=${session.sid}`, { method: 'POST', body: '3' });
  assertStatus(doubled, 200, 'POST with the sid twice');
  await session.end();
});

row('T63 Connection: close is honoured; keep-alive serves two requests', async (target) => {
  const connection = await RawConnection.open(target);
  for (let i = 0; i < 2; i += 1) {
    await connection.write(requestBytes('GET', `${base}EIO=4&transport=polling`));
    assertStatus(await connection.response(), 200, `request ${i + 1} on one connection`);
  }
  await connection.write(requestBytes('GET', `${base}EIO=4&transport=polling`, { Connection: 'close' }));
  const last = await connection.response();
  assertStatus(last, 200, 'request with Connection: close');
  assert.equal(last.headers.connection?.toLowerCase(), 'close');
  await connection.closed(2000, 'TCP is closed after Connection: close');
});

row('T63 pipelined requests are answered in order', async (target) => {
  const connection = await RawConnection.open(target);
  await connection.write(Buffer.concat([
    requestBytes('GET', `${base}EIO=4&transport=abc`),
    requestBytes('GET', `${base}EIO=4&transport=polling&sid=nobody`),
  ]));
  assertRefusal(await connection.response(), 400, 0, 'first of two pipelined requests');
  assertRefusal(await connection.response(), 400, 1, 'second of two pipelined requests');
  connection.destroy();
});

const skipFixed = { skip: process.env.TARGET ? 'needs settings of its own' : false };

row('T64 ping at pingInterval on polling; no pong, gone after pingInterval + pingTimeout', async () => {
  const target = await startEcho(suiteTimers);
  try {
    const session = await PollingSession.open(target);
    const begun = performance.now();
    const response = await session.get();
    const pinged = performance.now() - begun;
    assert.equal(response.text, '2', 'the ping');
    assert.ok(pinged > 270 && pinged < 400, `ping after ${pinged.toFixed(0)} ms, 300 expected`);
    // The next poll waits for the end: the session is closed under it at 500 ms.
    const last = await session.get();
    const ended = performance.now() - begun;
    assert.ok((last.status === 200 && last.text === '1') || last.status === 400, `the poll at the ping timeout ends with 1, got ${last.status} ${brief(last.text)}`);
    assert.ok(ended > 470 && ended < 600, `gone after ${ended.toFixed(0)} ms, 500 expected`);
    await session.assertGone('after the ping timeout');
  } finally {
    await target.stop();
  }
}, skipFixed);

row('T65 j is ignored: a plain payload', async (target) => {
  const response = await request(target, `${base}EIO=4&transport=polling&j=0`);
  assertStatus(response, 200, 'handshake with j=0');
  if (reference) return;
  assert.equal(response.text[0], '0', `a plain open packet, got ${brief(response.text)}`);
  assert.equal(response.headers['content-type'], 'text/plain; charset=UTF-8');
});

row('T66 static client bundle: 200 with ETag, or not served at all', async (target) => {
  const response = await request(target, `${SOCKETIO}socket.io.js`);
  assertStatus(response, [200, 400, 404], 'socket.io.js');
  if (response.status === 200) {
    assert.match(response.headers['content-type'], /javascript/);
    assert.ok(response.headers.etag, 'ETag');
  }
});

row('T66 `sockring serve` serves the bundle, 304 for its ETag', async () => {
  const target = await startSockring();
  try {
    const path = `${SOCKETIO}socket.io.js`;
    const response = await request(target, path);
    assertStatus(response, 200, path);
    assert.match(response.headers['content-type'], /javascript/);
    assert.ok(response.headers.etag, 'ETag');
    assert.ok(response.body.length > 10000 && response.text.includes('socket.io'), 'the client bundle');
    const again = await request(target, path, { headers: { 'If-None-Match': response.headers.etag } });
    assertStatus(again, 304, `${path} with If-None-Match`);
    // All that the reference serves, byte for byte, compressed for who takes that.
    for (const file of readdirSync(BUILDS)) {
      const wanted = readFileSync(new URL(file, BUILDS));
      const plain = await request(target, `${SOCKETIO}${file}`);
      assertStatus(plain, 200, file);
      assert.ok(plain.body.equals(wanted), `${file} is not the reference's`);
      const packed = await request(target, `${SOCKETIO}${file}`, { headers: { 'Accept-Encoding': 'gzip, br' } });
      assert.equal(packed.headers['content-encoding'], 'gzip', file);
      assert.ok(gunzipSync(packed.body).equals(wanted), `${file}, unpacked, is not the reference's`);
    }
  } finally {
    await target.stop();
  }
});
