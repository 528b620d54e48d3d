// Upgrade rows T50 to T58 of docs/wire.md, on `echo --layer socketio`.

import assert from 'node:assert/strict';
import { startEcho, normalTimers } from '../lib/program.mjs';
import { assertRefusal, assertStatus } from '../lib/http.mjs';
import { PollingSession, probe, SEPARATOR, WsClient } from '../lib/engine.mjs';
import { suite } from '../lib/suite.mjs';
import { brief, pause } from '../lib/wait.mjs';

const row = suite(() => startEcho(normalTimers));
const skipFixed = { skip: process.env.TARGET ? 'needs settings of its own' : false };

const upgradeUrl = (session) => `${session.target.wsUrl}${session.path}?EIO=4&transport=websocket&sid=${session.sid}`;

/** Upgrades as the real client does, trying again while an older probe is not yet known to be dead. */
async function upgradeAgain(session, ms = 3000) {
  const end = performance.now() + ms;
  for (;;) {
    let client;
    try {
      client = await probe(session);
    } catch (error) {
      if (performance.now() > end) throw new Error(`a new upgrade of the surviving session never succeeds: ${error.message}`);
      await pause(20);
      continue;
    }
    client.send('5');
    return client;
  }
}

row('T50 pending poll is released with 6 within about 100 ms of the probe', async (target) => {
  const session = await PollingSession.open(target);
  const held = await session.hold();
  const client = await probe(session);
  const begun = performance.now();
  const response = await held.response({ what: 'the pending poll is released by the probe' });
  const took = performance.now() - begun;
  assertStatus(response, 200, 'the pending poll');
  assert.equal(response.text, '6');
  assert.ok(took < 250, `released after ${took.toFixed(0)} ms, about 100 at most expected`);
  client.send('5');
  await client.join('/');
  await client.assertEchoes('after the upgrade');
});

row('T51 no open packet on the upgraded WebSocket', async (target) => {
  const session = await PollingSession.open(target);
  await session.connect();
  const client = await probe(session);
  client.send('5');
  await client.assertEchoes('after the upgrade');
  assert.deepEqual(client.frames.seen.filter((one) => String(one).startsWith('0')), []);
});

row('T52 wrong first packet on the probe WebSocket: closed, the polling session survives', async (target) => {
  const session = await PollingSession.open(target);
  for (const packet of ['4hello', '2', '2probX', '3probe', '42["message","x"]', Buffer.from([1, 2])]) {
    const client = await WsClient.open(upgradeUrl(session));
    client.send(packet);
    await client.closed(`first packet ${brief(packet)} on a probe WebSocket`);
    await session.assertAlive(`after a wrong first packet ${brief(packet)}`);
  }
  await session.end();
});

row('T53 probe WebSocket dropped after 3probe: the polling session survives and can be upgraded again', async (target) => {
  for (const end of ['terminate', 'close']) {
    const session = await PollingSession.open(target);
    await session.connect();
    const dropped = await probe(session);
    dropped[end]();
    await session.assertAlive(`after the probe WebSocket was dropped (${end})`);
    const client = await upgradeAgain(session);
    await client.assertEchoes('after the second upgrade');
    client.terminate();
  }
});

row('T54 second WebSocket while one is probing: second closed, first completes', async (target) => {
  const session = await PollingSession.open(target);
  await session.connect();
  const first = await probe(session);
  const second = new WsClient(upgradeUrl(session));
  await second.closed('a second WebSocket while one is probing');
  first.send('5');
  await first.assertEchoes('the first WebSocket completes its upgrade');
});

row('T55 after the upgrade: POST and GET code 3, another WebSocket closed, session survives', async (target) => {
  const session = await PollingSession.open(target);
  await session.connect();
  const client = await probe(session);
  client.send('5');
  await client.assertEchoes('after the upgrade');
  assertRefusal(await session.get(), 400, 3, 'GET after the upgrade');
  assertRefusal(await session.post('42["message","x"]'), 400, 3, 'POST after the upgrade');
  const second = new WsClient(upgradeUrl(session));
  await second.closed('another WebSocket after the upgrade');
  await client.assertEchoes('the session survives');
});

row('T56 replies made during the upgrade are delivered exactly once and in order', async (target) => {
  for (let round = 0; round < 10; round += 1) {
    const session = await PollingSession.open(target);
    await session.connect();
    const held = await session.hold();
    const client = await probe(session);
    for (let i = 0; i < 3; i += 1) await session.send(`42["message",${i}]`);
    const released = await held.response({ what: 'the poll that was pending during the upgrade' });
    assertStatus(released, 200, 'the poll that was pending during the upgrade');
    for (let i = 3; i < 5; i += 1) await session.send(`42["message",${i}]`);
    client.send('5');
    client.send('42["message",5]');
    const got = released.text.split(SEPARATOR).filter((packet) => packet !== '6');
    while (got.length < 6) got.push(await client.next(`echo ${got.length} of 0..5, by poll so far: ${brief(released.text)}`));
    assert.deepEqual(got, [0, 1, 2, 3, 4, 5].map((i) => `42["message-back",${i}]`), `round ${round}`);
    await client.assertEchoes('nothing comes twice');
    client.terminate();
    session.drop();
  }
});

row('T57 upgradeTimeout: probe WebSocket without 5 is closed, the polling session survives', async () => {
  const target = await startEcho({ ...normalTimers, upgradeTimeout: 500 });
  try {
    for (const probed of [true, false]) {
      const what = probed ? 'probed, 5 never sent' : 'never probed';
      const session = await PollingSession.open(target);
      const begun = performance.now();
      const client = probed ? await probe(session) : await WsClient.open(upgradeUrl(session));
      await client.closed(what);
      const took = performance.now() - begun;
      assert.ok(took > 450 && took < 750, `${what}: closed after ${took.toFixed(0)} ms, 500 expected`);
      await session.assertAlive(`${what}: the polling session survives`);
      const again = await upgradeAgain(session);
      await again.join('/');
      await again.assertEchoes(`${what}: upgraded at last`);
    }
  } finally {
    await target.stop();
  }
}, skipFixed);

row('T58 session closed by POST 1 during the probe: probe WebSocket closed too', async (target) => {
  const session = await PollingSession.open(target);
  const client = await probe(session);
  const posted = await session.post('1');
  assertStatus(posted, 200, 'POST of 1');
  await client.closed('the session was closed during the probe');
  await session.assertGone('after the close packet');
});

row('the upgrade completes when 2probe and 5 come in one read with the first message', async (target) => {
  const session = await PollingSession.open(target);
  await session.connect();
  const client = await WsClient.open(upgradeUrl(session));
  client.ws._socket.cork();
  client.send('2probe');
  client.send('5');
  client.send('42["message","first"]');
  client.ws._socket.uncork();
  await client.expect('3probe');
  await client.expect('42["message-back","first"]');
});
