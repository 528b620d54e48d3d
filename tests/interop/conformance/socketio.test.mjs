// The 32 demands of the Socket.IO v5 suite, on `echo --layer socketio`: 16 of Engine.IO on this path, 16 of Socket.IO.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startEcho, reference } from '../lib/program.mjs';
import { assertStatus } from '../lib/http.mjs';
import { closeAll, SOCKETIO as path, PollingSession, WsClient } from '../lib/engine.mjs';
import * as rows from '../lib/rows.mjs';

let target;
before(async () => {
  target = await startEcho({ layer: 'socketio' });
});
after(async () => {
  closeAll();
  await target?.stop();
});

const row = (name, body) => test(name, { timeout: 10000 }, body);
const session = () => WsClient.session(target);
const connected = () => WsClient.connected(target);

row('S1 handshake/polling: successfully opens a session', () => rows.pollingOpens(target, path));
row('S2 handshake/polling: invalid EIO', () => rows.pollingInvalidEio(target, path));
row('S3 handshake/polling: invalid transport', () => rows.pollingInvalidTransport(target, path));
row('S4 handshake/polling: invalid method', () => rows.pollingInvalidMethod(target, path));
row('S5 handshake/ws: successfully opens a session', () => rows.wsOpens(target, path));
row('S6 handshake/ws: invalid EIO', () => rows.wsInvalidEio(target, path));
row('S7 handshake/ws: invalid transport', () => rows.wsInvalidTransport(target, path));
row('S8 heartbeat/polling: ping and pong, without any CONNECT for 900 ms', () => rows.pollingPingPong(target, path));
row('S9 heartbeat/polling: ping timeout, sharp at 500 ms', () => rows.pollingPingTimeout(target, path, reference ? 30 : 5));
row('S10 heartbeat/ws: ping and pong, without any CONNECT for 900 ms', () => rows.wsPingPong(target, path));
row('S11 heartbeat/ws: ping timeout', () => rows.wsPingTimeout(target, path));
row('S12 close/polling: pending GET and POST 1 together', () => rows.pollingClose(target, path));
row('S13 close/ws: close packet ends the session', () => rows.wsClose(target, path));

row('S14 upgrade: succeeds', async () => {
  const { client } = await rows.beginUpgrade(target, path);
  client.send('5');
  await client.join('/');
  await client.assertEchoes('after the upgrade');
});

row('S15 upgrade: HTTP with the same sid afterwards is refused (upgrade packet sent without awaiting the probe answer)', async () => {
  const polling = await PollingSession.open(target);
  const client = await WsClient.open(`${target.wsUrl}${path}?EIO=4&transport=websocket&sid=${polling.sid}`);
  client.send('2probe');
  client.send('5');
  assertStatus(await polling.getWarm(), 400, 'a poll right after the upgrade packet');
  await client.expect('3probe', 'the answer to the probe');
  await client.join('/');
});

row('S16 upgrade: a second WebSocket with the same sid is closed (upgrade packet sent without awaiting the probe answer)', async () => {
  const polling = await PollingSession.open(target);
  const client = await WsClient.open(`${target.wsUrl}${path}?EIO=4&transport=websocket&sid=${polling.sid}`);
  client.send('2probe');
  client.send('5');
  await rows.secondWebSocketIsClosed(target, path, polling.sid);
  await client.expect('3probe', 'the answer to the probe');
  await client.join('/');
});

async function connects(sent, prefix, auth) {
  const client = await session();
  client.send(sent);
  const answer = await client.next(`the answer to ${sent}`);
  assert.ok(answer.startsWith(prefix), `${prefix}{"sid":...} expected, got ${answer}`);
  const value = JSON.parse(answer.slice(prefix.length));
  assert.deepEqual(Object.keys(value), ['sid'], 'CONNECT answer: only the key sid');
  assert.equal(typeof value.sid, 'string');
  await client.expect(auth, 'the auth event');
}

row('S17 connect: main namespace', () => connects('40', '40', '42["auth",{}]'));
row('S18 connect: main namespace with a payload', () => connects('40{"token":"123"}', '40', '42["auth",{"token":"123"}]'));
row('S19 connect: custom namespace', () => connects('40/custom,', '40/custom,', '42/custom,["auth",{}]'));
row('S20 connect: custom namespace with a payload', () => connects('40/custom,{"token":"abc"}', '40/custom,', '42/custom,["auth",{"token":"abc"}]'));

row('S21 connect: unknown namespace', async () => {
  const client = await session();
  client.send('40/random');
  await client.expect('44/random,{"message":"Invalid namespace"}');
});

row('S22 connect: invalid handshake closes', async () => {
  const client = await session();
  client.send('4abc');
  await client.closed('4abc before CONNECT', 2000);
});

row('S23 connect: no handshake closes', async () => {
  const client = await session();
  await client.closed('no CONNECT and no pong', 2000);
});

row('S24 disconnect: main namespace; nothing is sent back, the next frame is a ping', async () => {
  const client = await connected();
  client.send('41');
  assert.equal(await client.next('the next ping'), '2', 'the frame after 41');
});

row('S25 disconnect: connect, then disconnect from a custom namespace', async () => {
  const client = await connected();
  assert.equal(await client.next('the first ping'), '2');
  client.send('40/custom');
  assert.match(await client.next('the answer to CONNECT /custom'), /^40\/custom,\{"sid":"/);
  assert.equal(await client.next('the auth event of /custom'), '42/custom,["auth",{}]');
  client.send('41/custom');
  client.send('42["message","message to main namespace"]');
  assert.equal(await client.next('the echo within 200 ms', 200), '42["message-back","message to main namespace"]');
});

row('S26 message: plain text', async () => {
  const client = await connected();
  client.send('42["message",1,"2",{"3":[true]}]');
  await client.expect('42["message-back",1,"2",{"3":[true]}]');
});

row('S27 message: binary attachments', async () => {
  const client = await connected();
  client.send('452-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]');
  client.send(Buffer.from([1, 2, 3]));
  client.send(Buffer.from([4, 5, 6]));
  await client.expect('452-["message-back",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]');
  await client.expect(Buffer.from([1, 2, 3]), 'attachment 0');
  await client.expect(Buffer.from([4, 5, 6]), 'attachment 1');
});

row('S28 message: ack', async () => {
  const client = await connected();
  client.send('42456["message-with-ack",1,"2",{"3":[false]}]');
  await client.expect('43456[1,"2",{"3":[false]}]');
});

row('S29 message: binary ack', async () => {
  const client = await connected();
  client.send('452-789["message-with-ack",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]');
  client.send(Buffer.from([1, 2, 3]));
  client.send(Buffer.from([4, 5, 6]));
  await client.expect('462-789[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]');
  await client.expect(Buffer.from([1, 2, 3]), 'attachment 0');
  await client.expect(Buffer.from([4, 5, 6]), 'attachment 1');
});

for (const [number, words, packet] of [
  ['S30', 'unknown packet type', '4abc'],
  ['S31', 'invalid payload', '42{}'],
  ['S32', 'invalid ack id', '42abc["message-with-ack",1,"2",{"3":[false]}]'],
]) {
  row(`${number} message: ${words} closes`, async () => {
    const client = await connected();
    client.send(packet);
    await client.closed(`${packet} was sent`, 2000);
  });
}

row('the two that the suite leaves open: without CONNECT a ponging session lives 900 ms and is closed near connectTimeout 1000', async () => {
  const client = await session();
  const begun = performance.now();
  const ponging = (async () => {
    for (;;) {
      if ((await client.next('a ping', 2000)) === '2') client.send('3');
    }
  })().catch(() => {});
  await client.closed('no CONNECT within connectTimeout', 2000);
  const took = performance.now() - begun;
  assert.ok(took > 900 && took < 1300, `closed after ${took.toFixed(0)} ms, 1000 ms expected`);
  await ponging;
});

row('trap b: 100 upgrades, the upgrade packet always wins over a GET sent right after it', async () => {
  for (let i = 0; i < 100; i += 1) {
    const polling = await PollingSession.open(target);
    const client = await WsClient.open(`${target.wsUrl}${path}?EIO=4&transport=websocket&sid=${polling.sid}`);
    client.send('2probe');
    client.send('5');
    const response = await polling.getWarm();
    assertStatus(response, 400, `round ${i}: a poll right after the upgrade packet`);
    client.terminate();
    polling.drop();
  }
});

row('trap a: 20 sessions expire at 500 ms sharp while 50 others ping', async () => {
  const others = await Promise.all(Array.from({ length: 50 }, () => connected()));
  for (const one of others) {
    one.ws.on('message', (data) => {
      if (data.toString() === '2') one.send('3');
    });
  }
  await Promise.all(Array.from({ length: 20 }, () => rows.pollingPingTimeout(target, path, reference ? 30 : 5)));
  for (const one of others) assert.equal(one.closeCode, null, 'a client that pongs stays');
});
