// Packet rows P01 to P27 of docs/wire.md, on `echo --layer socketio` (P24, P25 on `sockring serve`).

import assert from 'node:assert/strict';
import { normalTimers, reference, startEcho, startSockring } from '../lib/program.mjs';
import { assertStatus } from '../lib/http.mjs';
import { closesCleanly, PollingSession, SEPARATOR, WsClient } from '../lib/engine.mjs';
import { frame, RawWs } from '../lib/rawws.mjs';
import { refusal, sign, tokenFor } from '../lib/jwt.mjs';
import { suite } from '../lib/suite.mjs';
import { brief } from '../lib/wait.mjs';

const row = suite(() => startEcho(normalTimers));
const skipFixed = { skip: process.env.TARGET ? 'needs settings of its own' : false };
const UNKNOWN = '{"message":"Invalid namespace"}';

/** Each list of frames, sent on a fresh connected client, must end it. */
async function eachCloses(target, cases) {
  for (const frames of cases) {
    const client = await WsClient.connected(target);
    for (const one of [frames].flat()) client.send(one);
    await closesCleanly(client, `client sent ${brief(frames)}`);
    assert.deepEqual(client.frames.seen.slice(3), [], `${brief(frames)}: nothing is answered before the close`);
  }
}

/** Each list of frames, sent on one connected client, is passed over in silence. */
async function eachIgnored(target, cases) {
  const client = await WsClient.connected(target);
  for (const frames of cases) {
    for (const one of [frames].flat()) client.send(one);
    await client.assertEchoes(`after ${brief(frames)}, ignored`);
  }
}

/** A polling session that is being closed: its next GET ends it, or it is already unknown. */
async function pollingEnds(session, what) {
  const response = await session.get();
  assert.ok(
    (response.status === 200 && ['1', '6\x1e1'].includes(response.text)) || (response.status === 400 && JSON.parse(response.text).code === 1),
    `${what}: the next GET gives 1, or 6 1, or code 1; got ${response.status} ${brief(response.text)}`,
  );
  await session.assertGone(what);
}

row('P01 CONNECT reply: only the key sid, 20 characters, different from the engine sid', async (target) => {
  const client = await WsClient.session(target);
  client.send('40');
  const answer = await client.next('the CONNECT answer');
  const value = JSON.parse(answer.slice(2));
  assert.deepEqual(Object.keys(value), ['sid']);
  assert.match(value.sid, /^[A-Za-z0-9_-]{20}$/);
  assert.notEqual(value.sid, client.sid);
});

row('P02 unknown namespace: refused, connection stays usable', async (target) => {
  const client = await WsClient.session(target);
  for (const sent of ['40/nope,', '40/nope', '40/nope,{"token":"x"}']) {
    client.send(sent);
    await client.expect(`44/nope,${UNKNOWN}`);
  }
  await client.join('/');
  await client.assertEchoes('after a refused namespace');
});

row('P03 namespace with a query string is not split', async (target) => {
  const client = await WsClient.session(target);
  client.send('40/custom?a=b,');
  await client.expect(`44/custom?a=b,${UNKNOWN}`);
});

row('P04 EVENT before CONNECT: close', async (target) => {
  for (const packet of ['42["message","x"]', '42/custom,["message","x"]', '421["message","x"]']) {
    const client = await WsClient.session(target);
    client.send(packet);
    await closesCleanly(client, `${packet} before CONNECT`);
    const session = await PollingSession.open(target);
    assertStatus(await session.post(packet), reference ? [200, 400] : [200, 400], `POST of ${packet} before CONNECT`);
    await pollingEnds(session, `${packet} before CONNECT`);
  }
});

row('P05 second CONNECT to the same namespace: close', async (target) => {
  await eachCloses(target, ['40', '40{}']);
  const client = await WsClient.connected(target, '/custom');
  client.send('40/custom,');
  await closesCleanly(client, 'second CONNECT to /custom');
});

row('P06 CONNECT payload array, string, number, broken JSON: close', async (target) => {
  for (const packet of ['40[]', '40"x"', '40{', '40{"a":}', '40true', '40{}x']) {
    const client = await WsClient.session(target);
    client.send(packet);
    await closesCleanly(client, `CONNECT ${packet}`);
  }
});

row('P07 DISCONNECT 41: connection stays; EVENT afterwards: close', async (target) => {
  const client = await WsClient.connected(target);
  client.send('41');
  client.send('40/nobody,');
  await client.expect(`44/nobody,${UNKNOWN}`, 'the connection stays and 41 has no answer');
  client.send('42["message","x"]');
  await closesCleanly(client, 'EVENT after DISCONNECT');
});

row('P08 41, then 40 again: a new Socket.IO sid', async (target) => {
  const client = await WsClient.connected(target);
  client.send('41');
  client.send('40/nobody,');
  await client.expect(`44/nobody,${UNKNOWN}`);
  const again = await client.join('/');
  assert.notEqual(again, client.socketId);
  await client.assertEchoes('after the second CONNECT');
});

row('P08 41 and 40 in one read, and in one payload, are accepted', async (target) => {
  if (reference) return;
  const raw = await RawWs.connected(target);
  await raw.write(Buffer.concat([frame({ payload: '41' }), frame({ payload: '40' })]));
  assert.match(await raw.nextText('the answer to 41 and 40 in one read'), /^40\{"sid":"/);
  assert.equal(await raw.nextText('the auth event'), '42["auth",{}]');
  await raw.assertEchoes('after 41 and 40 in one read');
  raw.destroy();
  const session = await PollingSession.open(target);
  await session.connect();
  await session.send('41', '40');
  const [answer, auth] = await session.pollPackets(2);
  assert.match(answer, /^40\{"sid":"/);
  assert.equal(auth, '42["auth",{}]');
  await session.end();
});

row('P09 DISCONNECT with payload: close', (target) => eachCloses(target, ['41{}', '41[]', '41"x"']));
row('P10 client-sent CONNECT_ERROR: close', (target) => eachCloses(target, ['44{"message":"x"}', '44"x"', '44']));
row('P11 unknown packet types and the empty packet: close', (target) => eachCloses(target, ['47', '48', '49', '4a', '4', '4-1', '4 2["message"]']));

// The reference lets a bare 42 pass in silence, although the notes say none -> close.
const bare = reference ? [] : ['42', '421', '42/custom,'];

row('P12 EVENT payloads that are not [string or number, ...]: close', (target) => eachCloses(target, [
  '42{}', '42"s"', '42[]', '42[null]', '42[{}]', '42[true]', '42["message"', '42[["message"]]', '42null', '42["message"]x', ...bare,
]));

row('P13 reserved event names: close', (target) => eachCloses(target, [
  'connect', 'connect_error', 'disconnect', 'disconnecting', 'newListener', 'removeListener',
].map((name) => `42["${name}"]`)));

row('P13 a reserved name written with an escape is the same name: close', (target) => eachCloses(target, ['42["\\u0063onnect"]']));

row('P14 unknown and numeric event names are ignored', (target) => eachIgnored(target, [
  '42["nobody-listens",1]', '42[""]', '42[1,"x"]', '42[1.5]', '42["error"]', '42["joinRoom",{"roomId":"x"}]', '42["__proto__"]', '427["nobody-listens"]',
]));

row('P15 ACK for an id never used is ignored; ACK with a payload that is no array: close', async (target) => {
  await eachIgnored(target, ['43999[]', '430["x"]', '4399999999999[1]']);
  await eachCloses(target, ['431{}', '431"x"', '431[']);
});

row('P16 raw binary frame without header: close', (target) => eachCloses(target, [[Buffer.from([1, 2, 3])]]));

row('P17 text frame while attachments are awaited: close', (target) => eachCloses(target, [
  ['451-["message",{"_placeholder":true,"num":0}]', '42["message","x"]'],
  ['452-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]', Buffer.from([1]), '41'],
]));

row('P18 illegal attachment counts: close', (target) => eachCloses(target, ['45a-["message"]', '45-1-["message"]', '451.5-["message"]', '451["message"]', '45-["message"]', '45', '451', ...(reference ? [] : ['451-'])]));

row('P19 more than 10 attachments: close', async (target) => {
  const placeholders = Array.from({ length: 11 }, (_, num) => `{"_placeholder":true,"num":${num}}`).join(',');
  await eachCloses(target, [`4511-["message",${placeholders}]`, '4599999-["message"]']);
});

row('P20 placeholder index out of range, negative, fraction, string: close', (target) => eachCloses(target,
  ['1', '-1', '"0"', '1.5', '1e9', '"splice"', 'null', '99999999999999999999'].map((num) => [`451-["message",{"_placeholder":true,"num":${num}}]`, Buffer.from([1])])));

row('P21 header claims 1 attachment, but has no placeholder: accepted, attachment dropped', async (target) => {
  const client = await WsClient.connected(target);
  client.send('451-["message","x"]');
  client.send(Buffer.from([1, 2, 3]));
  await client.expect('42["message-back","x"]', 'the event without its attachment');
  await client.assertEchoes('the socket stays');
});

row('P22 polling payload with several packets is processed in order', async (target) => {
  const session = await PollingSession.open(target);
  await session.connect();
  await session.send('42["message",1]', '421["message-with-ack","a"]', '3', '42["message",2]', '452-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]', 'bAQ==', 'bAg==', '42["message",3]');
  assert.deepEqual(await session.pollPackets(7), [
    '42["message-back",1]', '431["a"]', '42["message-back",2]',
    '452-["message-back",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]', 'bAQ==', 'bAg==',
    '42["message-back",3]',
  ]);
  await session.end();
});

row('P23 connectTimeout: no CONNECT, or only a refused one, ends the session', async () => {
  const target = await startEcho({ ...normalTimers, connectTimeout: 1000 });
  try {
    const begun = performance.now();
    const silent = await WsClient.session(target);
    const joined = await WsClient.connected(target);
    const session = await PollingSession.open(target);
    const polled = session.get();
    await silent.closed('no CONNECT');
    const took = performance.now() - begun;
    assert.ok(took > 900 && took < 1300, `WebSocket closed after ${took.toFixed(0)} ms, 1000 expected`);
    const response = await polled;
    assert.ok(response.status === 200 && response.text === '1', `polling without CONNECT: the pending GET ends with 1, got ${response.status} ${brief(response.text)}`);
    await session.assertGone('no CONNECT by polling');
    await joined.assertEchoes('a client that did CONNECT stays');
  } finally {
    await target.stop();
  }
}, skipFixed);

row('P24 refused by the middleware only: connection stays open, a later valid CONNECT works', async () => {
  const target = await startSockring();
  try {
    const client = await WsClient.session(target);
    for (const [payload, code] of [
      ['', 'token_missing'],
      ['{"token":""}', 'token_missing'],
      ['{"token":"nonsense"}', 'token_invalid'],
      [`{"token":"${sign({ _id: 'u' }, { key: 'another secret' })}"}`, 'token_invalid'],
    ]) {
      client.send(`40${payload}`);
      await client.expect(refusal(code), `CONNECT ${payload || 'without payload'}`);
    }
    client.send(`40{"token":"${tokenFor('u')}"}`);
    assert.match(await client.nextMessage('the CONNECT answer'), /^40\{"sid":"[^"]{20}","pid":"[\w-]{44}"\}$/);
    assert.match(await client.nextMessage('the connected event'), /^42\["connected",\{/);
  } finally {
    await target.stop();
  }
});

row('P25 EVENT on a namespace that refused: close', async () => {
  const target = await startSockring();
  try {
    const client = await WsClient.session(target);
    client.send('40{"token":"nonsense"}');
    await client.expect(refusal('token_invalid'));
    client.send('42["message","x"]');
    await closesCleanly(client, 'EVENT after CONNECT_ERROR');
  } finally {
    await target.stop();
  }
});

row('P26 deeply nested and huge JSON do not kill the server', async (target) => {
  // The Node reference itself dies of depth: its stack is the limit.
  const depth = reference ? 2000 : 200000;
  for (const packet of [
    `42["message",${'['.repeat(depth)}${']'.repeat(depth)}]`,
    `42["message",${'['.repeat(depth)}`,
    `42["message",${'{"a":'.repeat(depth / 2)}1${'}'.repeat(depth / 2)}]`,
    `40/custom,${'{"a":'.repeat(depth / 2)}1${'}'.repeat(depth / 2)}`,
    `42["message",${'1,'.repeat(2 * depth)}1]`,
    `42["message",1${'0'.repeat(500000)}]`,
    `451-["message",${'['.repeat(depth)}{"_placeholder":true,"num":0}${']'.repeat(depth)}]`,
  ]) {
    const client = await WsClient.connected(target);
    client.send(packet);
    if (packet.startsWith('451-')) client.send(Buffer.from([1]));
    client.send('42["message","after"]');
    // Echoed or refused: both are fine, as long as something happens and the next client is served.
    await Promise.race([client.closed(`answer or close after ${packet.slice(0, 20)}...`, 8000), client.next(`answer or close after ${packet.slice(0, 20)}...`, 8000).catch(() => {})]);
    client.terminate();
    const next = await WsClient.connected(target);
    await next.assertEchoes(`the server serves others after ${packet.slice(0, 20)}...`);
    next.terminate();
  }
}, { timeout: 60000 });

row('P27 EVENT in the same payload as its CONNECT is accepted', async (target) => {
  if (reference) return;
  const session = await PollingSession.open(target);
  await session.send('40', '42["message","early"]');
  const packets = await session.pollPackets(3);
  assert.match(packets[0], /^40\{"sid":"/);
  assert.deepEqual(packets.slice(1), ['42["auth",{}]', '42["message-back","early"]']);
  await session.end();
  const raw = await RawWs.session(target);
  await raw.write(Buffer.concat([frame({ payload: '40' }), frame({ payload: '42["message","early"]' })]));
  assert.match(await raw.nextText('the CONNECT answer'), /^40\{"sid":"/);
  assert.equal(await raw.nextText('the auth event'), '42["auth",{}]');
  assert.equal(await raw.nextText('the echo'), '42["message-back","early"]');
  raw.destroy();
});

row('a polling payload that breaks the protocol in the middle ends the session, and what came before counts', async (target) => {
  const session = await PollingSession.open(target);
  await session.connect();
  const response = await session.post(['42["message",1]', '4abc', '42["message",2]'].join(SEPARATOR));
  assertStatus(response, [200, 400], 'POST with a broken packet in the middle');
  const last = await session.get();
  assert.ok(!last.text.includes('["message-back",2]'), `the packet after the broken one must not be processed, got ${brief(last.text)}`);
  await session.goneWithin(2000, 'after a broken packet');
});
