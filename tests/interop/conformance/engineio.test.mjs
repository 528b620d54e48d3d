// The 25 demands of the Engine.IO v4 suite, on `echo --layer engineio`.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startEcho, reference } from '../lib/program.mjs';
import { assertStatus } from '../lib/http.mjs';
import { closeAll, ENGINEIO as path, PollingSession, WsClient } from '../lib/engine.mjs';
import { pause } from '../lib/wait.mjs';
import * as rows from '../lib/rows.mjs';

let target;
before(async () => {
  target = await startEcho({ layer: 'engineio' });
});
after(async () => {
  closeAll();
  await target?.stop();
});

const row = (name, body) => test(name, { timeout: 10000 }, body);
const open = () => PollingSession.open(target, { path });
const session = () => WsClient.session(target, { path });

async function echoes(body) {
  const polling = await open();
  const posted = await polling.post(body);
  assertStatus(posted, 200, 'POST');
  assert.equal(posted.text, 'ok', 'POST answer');
  const polled = await polling.get();
  assertStatus(polled, 200, 'GET');
  assert.equal(polled.text, body, 'one GET gives all packets, joined as they came');
  polling.drop();
}

row('E1 handshake/polling: successfully opens a session', () => rows.pollingOpens(target, path));
row('E2 handshake/polling: invalid EIO', () => rows.pollingInvalidEio(target, path));
row('E3 handshake/polling: invalid transport', () => rows.pollingInvalidTransport(target, path));
row('E4 handshake/polling: invalid method', () => rows.pollingInvalidMethod(target, path));
row('E5 handshake/ws: successfully opens a session', () => rows.wsOpens(target, path));
row('E6 handshake/ws: invalid EIO', () => rows.wsInvalidEio(target, path));
row('E7 handshake/ws: invalid transport', () => rows.wsInvalidTransport(target, path));

row('E8 message/polling: one plain text packet', () => echoes('4hello'));
row('E9 message/polling: several plain text packets', () => echoes('4test1\x1e4test2\x1e4test3'));
row('E10 message/polling: text and binary', () => echoes('4hello\x1ebAQIDBA=='));

row('E11 message/polling: invalid packet format closes the session', async () => {
  const polling = await open();
  const posted = await polling.post('abc');
  assertStatus(posted, reference ? [200, 400] : 400, 'POST of an invalid packet');
  await polling.assertGone('after an invalid packet');
});

row('E12 message/polling: duplicate poll requests close the session', async () => {
  const polling = await open();
  const first = await polling.hold();
  await pause(5);
  const [one, two] = await Promise.all([first.response({ what: 'the first poll ends' }), polling.get()]);
  assertStatus(one, 200, 'the first poll');
  assert.equal(one.text, '1', 'the first poll ends with exactly a close packet');
  assertStatus(two, reference ? [400, 500] : 400, 'the second poll');
  assertStatus(await polling.get(), 400, 'a later poll');
  first.destroy();
});

row('E13 message/polling: cancelled polling request closes the session', async () => {
  for (const end of ['reset', 'destroy']) {
    const polling = await open();
    const held = await polling.hold();
    await pause(5);
    held[end]();
    assertStatus(await polling.get(), 400, `the next poll after the pending one was cut (${end})`);
  }
});

row('E14 message/ws: plain text', async () => {
  const client = await session();
  client.send('4hello');
  await client.expect('4hello');
});

row('E15 message/ws: binary', async () => {
  const client = await session();
  client.send(Buffer.from([1, 2, 3, 4]));
  await client.expect(Buffer.from([1, 2, 3, 4]));
});

row('E16 message/ws: invalid packet format closes the socket', async () => {
  const client = await session();
  client.send('abc');
  await client.closed('an invalid packet was sent', 2000);
});

row('E17 heartbeat/polling: ping and pong', () => rows.pollingPingPong(target, path));
row('E18 heartbeat/polling: ping timeout, sharp at 500 ms', () => rows.pollingPingTimeout(target, path, reference ? 30 : 5));
row('E19 heartbeat/ws: ping and pong', () => rows.wsPingPong(target, path));
row('E20 heartbeat/ws: ping timeout', () => rows.wsPingTimeout(target, path));
row('E21 close/polling: pending GET and POST 1 together', () => rows.pollingClose(target, path));
row('E22 close/ws: close packet ends the session', () => rows.wsClose(target, path));

row('E23 upgrade: succeeds', async () => {
  const { session: polling, client } = await rows.beginUpgrade(target, path);
  await rows.upgradeReleasesPoll(polling);
  client.send('5');
  client.send('4hello');
  await client.expect('4hello', 'an echo after the upgrade');
});

row('E24 upgrade: HTTP with the same sid afterwards is refused', async () => {
  const { session: polling, client } = await rows.beginUpgrade(target, path);
  client.send('5');
  assertStatus(await polling.getWarm(), 400, 'a poll right after the upgrade packet');
  client.send('4hello');
  await client.expect('4hello', 'the WebSocket goes on');
});

row('E25 upgrade: a second WebSocket with the same sid is closed', async () => {
  const { session: polling, client } = await rows.beginUpgrade(target, path);
  client.send('5');
  await rows.secondWebSocketIsClosed(target, path, polling.sid);
  client.send('4hello');
  await client.expect('4hello', 'the first WebSocket goes on');
});

// The traps of a server with several threads, many times over.

row('trap b: a POST of the close packet never overtakes the GET before it (100 times)', async () => {
  for (let i = 0; i < 100; i += 1) await rows.pollingClose(target, path);
});

row('trap b: the upgrade packet wins over a GET sent right after it (100 times)', async () => {
  for (let i = 0; i < 100; i += 1) {
    const { session: polling, client } = await rows.beginUpgrade(target, path);
    client.send('5');
    assertStatus(await polling.getWarm(), 400, `round ${i}: a poll right after the upgrade packet`);
    client.terminate();
    polling.drop();
  }
});

row('trap a: 20 sessions all expire at 500 ms sharp', async () => {
  await Promise.all(Array.from({ length: 20 }, () => rows.pollingPingTimeout(target, path, reference ? 30 : 5)));
});

row('trap c: the close packet ends a WebSocket session at once, not by ping timeout', async () => {
  const took = await rows.wsClose(target, path);
  if (!reference) assert.ok(took < 150, `closed after ${took.toFixed(0)} ms; by the close packet it takes a few`);
});
