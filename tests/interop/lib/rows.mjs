// The rows that the Engine.IO suite and the Socket.IO suite share: opening, heartbeat, close.

import assert from 'node:assert/strict';
import { assertStatus, request } from './http.mjs';
import { PollingSession, WsClient } from './engine.mjs';
import { pause, within } from './wait.mjs';
import { suiteTimers } from './program.mjs';

const KEYS = ['sid', 'upgrades', 'pingInterval', 'pingTimeout', 'maxPayload'];

function assertHandshake(value, upgrades) {
  assert.deepEqual(Object.keys(value).sort(), [...KEYS].sort(), 'open packet: exactly these keys');
  assert.equal(typeof value.sid, 'string', 'open packet: sid');
  assert.deepEqual(value.upgrades, upgrades, 'open packet: upgrades');
  assert.equal(value.pingInterval, suiteTimers.pingInterval, 'open packet: pingInterval');
  assert.equal(value.pingTimeout, suiteTimers.pingTimeout, 'open packet: pingTimeout');
  assert.equal(value.maxPayload, 1000000, 'open packet: maxPayload');
}

async function assertHttpRefused(target, cases) {
  for (const [method, path] of cases) {
    assertStatus(await request(target, path, { method }), 400, `${method} ${path}`);
  }
}

async function assertWsRefused(target, paths) {
  for (const path of paths) {
    const client = new WsClient(`${target.wsUrl}${path}`);
    await client.closed(`WebSocket to ${path}`, 2000);
    assert.ok(!client.frames.seen.some((one) => String(one).startsWith('0')), `WebSocket to ${path} must not get an open packet`);
  }
}

export async function pollingOpens(target, path) {
  const session = await PollingSession.open(target, { path });
  assertHandshake(session.handshake, ['websocket']);
  session.drop();
}

export const pollingInvalidEio = (target, path) =>
  assertHttpRefused(target, [['GET', `${path}?transport=polling`], ['GET', `${path}?EIO=abc&transport=polling`]]);

export const pollingInvalidTransport = (target, path) =>
  assertHttpRefused(target, [['GET', `${path}?EIO=4`], ['GET', `${path}?EIO=4&transport=abc`]]);

export const pollingInvalidMethod = (target, path) =>
  assertHttpRefused(target, [['POST', `${path}?EIO=4&transport=polling`], ['PUT', `${path}?EIO=4&transport=polling`]]);

export async function wsOpens(target, path) {
  const client = await WsClient.session(target, { path });
  assertHandshake(client.handshake, []);
  client.close();
}

export const wsInvalidEio = (target, path) =>
  assertWsRefused(target, [`${path}?transport=websocket`, `${path}?EIO=abc&transport=websocket`]);

export const wsInvalidTransport = (target, path) =>
  assertWsRefused(target, [`${path}?EIO=4`, `${path}?EIO=4&transport=abc`]);

export async function pollingPingPong(target, path) {
  const session = await PollingSession.open(target, { path });
  for (let i = 1; i <= 3; i += 1) {
    const response = await session.get();
    assertStatus(response, 200, `poll ${i}`);
    assert.equal(response.text, '2', `poll ${i}: exactly a ping`);
    assertStatus(await session.post('3'), 200, `pong ${i}`);
  }
  session.drop();
}

export async function pollingPingTimeout(target, path, slack = 0) {
  const session = await PollingSession.open(target, { path });
  await pause(suiteTimers.pingInterval + suiteTimers.pingTimeout + slack);
  await session.assertGone('500 ms without a request');
  session.drop();
}

export async function wsPingPong(target, path) {
  const client = await WsClient.session(target, { path });
  for (let i = 1; i <= 3; i += 1) {
    assert.equal(await client.next(`ping ${i}`), '2', `ping ${i}`);
    client.send('3');
  }
  client.close();
}

export async function wsPingTimeout(target, path) {
  const client = await WsClient.session(target, { path });
  await client.closed('no pong is sent', 5000);
}

export async function pollingClose(target, path) {
  const session = await PollingSession.open(target, { path });
  const held = await session.hold();
  const [response, posted] = await Promise.all([held.response({ what: 'the end of the pending poll' }), session.postAfter('1')]);
  assertStatus(posted, 200, 'POST of the close packet');
  assertStatus(response, 200, 'the pending poll');
  assert.equal(response.text, '6', 'the pending poll ends with exactly a noop');
  await session.assertGone('after the close packet');
  held.destroy();
  session.drop();
}

export async function wsClose(target, path) {
  const client = await WsClient.session(target, { path });
  const begun = performance.now();
  client.send('1');
  await client.closed('the close packet was sent', 2000);
  return performance.now() - begun;
}

/** Polling session, probe WebSocket, answered probe. */
export async function beginUpgrade(target, path) {
  const session = await PollingSession.open(target, { path });
  const client = await WsClient.open(`${target.wsUrl}${path}?EIO=4&transport=websocket&sid=${session.sid}`);
  client.send('2probe');
  assert.equal(await client.next('the answer to the probe'), '3probe');
  return { session, client };
}

export async function upgradeReleasesPoll(session) {
  const response = await within(2000, 'the poll during the upgrade is released', session.get());
  assertStatus(response, 200, 'the poll during the upgrade');
  assert.equal(response.text, '6', 'the poll during the upgrade ends with exactly a noop');
}

export async function secondWebSocketIsClosed(target, path, sid) {
  const second = new WsClient(`${target.wsUrl}${path}?EIO=4&transport=websocket&sid=${sid}`);
  await second.closed('a second WebSocket with the sid of an upgraded session', 2000);
}
