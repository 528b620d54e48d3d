// Handler rows H01 to H10 of docs/wire.md, on `echo --layer socketio`.

import assert from 'node:assert/strict';
import { gunzipSync } from 'node:zlib';
import { normalTimers, startEcho } from '../lib/program.mjs';
import { assertStatus, requestBytes } from '../lib/http.mjs';
import { PollingSession, SEPARATOR, WsClient } from '../lib/engine.mjs';
import { suite } from '../lib/suite.mjs';
import { brief, pause } from '../lib/wait.mjs';

const row = suite(() => startEcho(normalTimers));

async function echoedByWs(target, text) {
  const client = await WsClient.connected(target);
  client.send(`42["message",${text}]`);
  await client.expect(`42["message-back",${text}]`, `WebSocket echo of ${brief(text)}`);
  client.terminate();
}

async function echoedByPolling(target, text) {
  const session = await PollingSession.open(target);
  await session.connect();
  await session.send(`42["message",${text}]`);
  const response = await session.get();
  assertStatus(response, 200, 'poll');
  assert.equal(response.body.toString('hex'), Buffer.from(`42["message-back",${text}]`).toString('hex'), `polling echo of ${brief(text)}, bytes`);
  await session.end();
}

row('H01 unicode, astral characters, U+2028, escaped quotes: identical bytes by ws and polling', async (target) => {
  for (const text of [
    '"h\u00e9llo \u4e16\u754c"', '"\u{1f600}\u{10ffff}"', '"a\u2028b\u2029c"', '"say \\"hi\\" \\\\ / \\n\\t"', '"\u007f\u0080"',
    '{"\u00fc":["\u{1f9d1}\u200d\u{1f680}",null,true,1.5,-0.25,1e+21]}',
  ]) {
    await echoedByWs(target, text);
    await echoedByPolling(target, text);
  }
});

row('H02 polling: binary event is header + b + base64, in both directions', async (target) => {
  const session = await PollingSession.open(target);
  await session.connect();
  const header = (name) => `452-["${name}",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`;
  await session.send(header('message'), 'bAQID', 'b/+8=');
  assert.deepEqual(await session.pollPackets(3), [header('message-back'), 'bAQID', 'b/+8=']);
  // The three packets may come in three POSTs too.
  await session.send(header('message'));
  await session.send('bBAUG');
  await session.send('bAA==');
  assert.deepEqual(await session.pollPackets(3), [header('message-back'), 'bBAUG', 'bAA==']);
  await session.end();
});

row('H03 polling: a UTF-8 character split across TCP segments', async (target) => {
  const session = await PollingSession.open(target);
  await session.connect();
  const body = Buffer.from('42["message","\u{1f600}"]');
  const connection = session.main;
  session.main = null;
  const at = body.indexOf(0xf0) + 2;
  await connection.write(Buffer.concat([requestBytes('POST', session.query, { 'Content-Length': body.length }), body.subarray(0, at)]));
  await pause(30);
  await connection.write(body.subarray(at));
  assertStatus(await connection.response({ what: 'the answer to the POST in two segments' }), 200, 'POST in two segments');
  assert.deepEqual(await session.poll(), ['42["message-back","\u{1f600}"]']);
  connection.destroy();
  await session.end();
});

row('H03 polling: a POST in segments of one byte', async (target) => {
  const session = await PollingSession.open(target);
  await session.connect();
  const bytes = requestBytes('POST', session.query, {}, '42["message","\u{1f600}\u00e9"]');
  for (const byte of bytes) await session.main.write(Buffer.from([byte]));
  assertStatus(await session.main.response({ what: 'the answer to the POST in bytes' }), 200, 'POST in single bytes');
  assert.deepEqual(await session.poll(), ['42["message-back","\u{1f600}\u00e9"]']);
  await session.end();
});

row('H04 the record separator inside JSON comes out escaped', async (target) => {
  await echoedByWs(target, '"a\\u001eb"');
  await echoedByPolling(target, '"a\\u001eb"');
});

row('H05 ack with no arguments, id 0, large id', async (target) => {
  const client = await WsClient.connected(target);
  for (const [sent, expected] of [
    ['427["message-with-ack"]', '437[]'],
    ['420["message-with-ack"]', '430[]'],
    ['420["message-with-ack","x",null]', '430["x",null]'],
    ['42999999999["message-with-ack",1]', '43999999999[1]'],
    ['429007199254740991["message-with-ack",1]', '439007199254740991[1]'],
  ]) {
    client.send(sent);
    await client.expect(expected, sent);
  }
});

row('H06 namespaces on one WebSocket are independent', async (target) => {
  const client = await WsClient.connected(target);
  const custom = await client.join('/custom');
  assert.notEqual(custom, client.socketId);
  client.send('41/custom,');
  await client.assertEchoes('the main namespace stays after 41/custom');
  await client.join('/custom');
  client.send('41');
  client.send('42/custom,["nobody-listens"]');
  client.send('40/nobody,');
  await client.expect('44/nobody,{"message":"Invalid namespace"}', '/custom stays after 41');
});

row('H07 100 events in one payload are answered in order', async (target) => {
  const numbers = Array.from({ length: 100 }, (_, i) => i);
  const session = await PollingSession.open(target);
  await session.connect();
  await session.send(...numbers.map((i) => `42["message",${i}]`));
  assert.deepEqual(await session.pollPackets(100), numbers.map((i) => `42["message-back",${i}]`));
  await session.end();
  const client = await WsClient.connected(target);
  for (const i of numbers) client.send(`42["message",${i}]`);
  for (const i of numbers) await client.expect(`42["message-back",${i}]`);
});

row('H08 placeholder nested in objects; 10 attachments; empty attachment', async (target) => {
  const client = await WsClient.connected(target);
  const echo = async (args, attachments) => {
    const count = attachments.length;
    client.send(`45${count}-["message",${args}]`);
    for (const one of attachments) client.send(one);
    await client.expect(`45${count}-["message-back",${args}]`);
    for (const one of attachments) await client.expect(one, 'attachment');
  };
  await echo('{"a":[{"b":{"_placeholder":true,"num":0}}]},{"_placeholder":true,"num":1},"x"', [Buffer.from([1]), Buffer.from([2, 3])]);
  await echo(Array.from({ length: 10 }, (_, num) => `{"_placeholder":true,"num":${num}}`).join(','), Array.from({ length: 10 }, (_, i) => Buffer.alloc(i + 1, i)));
  await echo('{"_placeholder":true,"num":0}', [Buffer.alloc(0)]);
  await echo('{"_placeholder":true,"num":0}', [Buffer.alloc(70000, 7)]);
});

row('H09 an answer of 1,024 bytes and more is compressed where gzip is accepted', async (target) => {
  const session = await PollingSession.open(target);
  await session.connect();
  const answer = async (text, accepted) => {
    await session.send(`42["message","${text}"]`);
    const response = await session.get({ headers: accepted ? { 'Accept-Encoding': accepted } : {} });
    assertStatus(response, 200, 'poll');
    const encoding = response.headers['content-encoding'];
    const body = encoding === 'gzip' ? gunzipSync(response.body).toString() : response.text;
    assert.equal(body, `42["message-back","${text}"]`);
    return [encoding, response.body.length < text.length];
  };
  const long = 'abcd'.repeat(5000);
  assert.deepEqual(await answer(long, 'gzip, deflate'), ['gzip', true]);
  assert.deepEqual(await answer(long, 'br, gzip'), ['gzip', true]);
  for (const accepted of ['identity', 'br', 'gzip;q=0', undefined]) assert.deepEqual(await answer(long, accepted), [undefined, false]);
  assert.deepEqual(await answer('short', 'gzip'), [undefined, false]);
  // The answer's head says that it is compressed, and the body is as long as it says.
  const [edge] = await answer('a'.repeat(1024 - '42["message-back",""]'.length), 'gzip');
  assert.equal(edge, 'gzip');
  await session.end();
});

row('H10 an event without a pending poll waits for the next one; replies to one POST come together', async (target) => {
  const session = await PollingSession.open(target);
  await session.connect();
  await session.send('42["message",1]', '42["message",2]');
  await session.send('42["message",3]');
  const response = await session.get();
  assert.equal(response.text, [1, 2, 3].map((i) => `42["message-back",${i}]`).join(SEPARATOR), 'one poll gives all that waited');
  const held = await session.hold();
  await session.send('42["message",4]', '42["message",5]');
  const released = await held.response({ what: 'the pending poll gets the replies' });
  const got = released.text.split(SEPARATOR);
  while (got.length < 2) got.push(...(await session.poll()));
  assert.deepEqual(got, ['42["message-back",4]', '42["message-back",5]']);
  await session.end();
});
