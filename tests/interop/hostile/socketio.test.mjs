// Attacks in Socket.IO packets: A1 and so on are the rows of docs/attacks.md.

import assert from 'node:assert/strict';
import { reference } from '../lib/program.mjs';
import { call, emit } from '../lib/api.mjs';
import { PollingSession, WsClient } from '../lib/engine.mjs';
import { assertStays, attacks, member, withinMemory } from '../lib/hostile.mjs';
import { refusal, tokenFor } from '../lib/jwt.mjs';
import { brief } from '../lib/wait.mjs';

const attack = attacks();
const one = Buffer.from([1]);

async function eachCloses(target, cases) {
  for (const frames of cases) {
    const client = await member(target, 'breaker');
    for (const packet of [frames].flat()) client.send(packet);
    await client.closed(`${brief(frames)} is a parse error`);
  }
}

attack('A5 zero attachments, then endless binary frames: closed', (target) => eachCloses(target, [['450-["x"]', one, one, one]].concat(reference ? [] : [['450-["x"]']])));

attack('A6 999999 attachments: closed by the header', (target) => eachCloses(target, ['45999999-["x"]', '4511-["x"]', '461000000-["x"]', ['4599999999999999999999-["x"]', one]]));

attack('A7 binary EVENT before CONNECT: closed at once, nothing kept', async (target) => {
  for (const packet of ['451-["x",{"_placeholder":true,"num":0}]', '451-/custom,["x",{"_placeholder":true,"num":0}]']) {
    const client = await WsClient.session(target);
    client.send(packet);
    client.send(one);
    await client.closed('a binary EVENT before CONNECT', 1000);
  }
  if (reference) return;
  // By its header already, without waiting for the attachment.
  const early = await WsClient.session(target);
  early.send('4510-["x"]');
  await early.closed('the header of a binary EVENT before CONNECT', 900);
});

attack('A7 attachments before CONNECT by polling: closed', async (target) => {
  const session = await PollingSession.open(target);
  await session.post('451-["x",{"_placeholder":true,"num":0}]\x1ebAQ==');
  await session.get();
  await session.goneWithin(1000, 'a binary EVENT before CONNECT');
});

attack('A12 an event called error is an ordinary one', async (target) => {
  const client = await member(target, 'erring');
  client.send('42["error"]');
  client.send('42["error",{"message":"x"}]');
  await assertStays(target, client, 'erring', 'after an event called error');
});

attack('A13 the malformed packets of the parser advisories: closed', (target) => eachCloses(target, [
  '42[{"toString":"foo"}]', '42[true,"a"]', '42[null]', '42{}', '42["connect"]', '40[]', '40/admin,"x"', '41/admin,{}', '4999', '442["a"', '45', '451', '451a-', '45.5-',
]));

attack('A16 placeholders that point nowhere: closed as illegal attachments', (target) => eachCloses(target,
  ['"splice"', '-1', '99', '1.5', '1e9', '"__proto__"', '{}', 'true'].map((num) => [`451-["e",{"_placeholder":true,"num":${num}}]`, one])));

attack('A16 one attachment named a million times by placeholders does not multiply', async (target) => {
  await withinMemory(target, 64, 'placeholders', async () => {
    const client = await member(target, 'multiplier');
    client.send(`451-["nobody-listens",[${Array.from({ length: 25000 }, () => '{"_placeholder":true,"num":0}').join(',')}]]`);
    client.send(Buffer.alloc(900000, 1));
    await Promise.race([client.closed('closed', 5000), assertStays(target, client, 'multiplier', 'after the placeholders').catch((error) => {
      if (client.closeCode === null) throw error;
    })]);
  });
});

attack('A19 an ack id of 100000 digits is refused, a namespace of 500000 characters takes linear time', async (target) => {
  const begun = performance.now();
  if (!reference) await eachCloses(target, [`42${'2'.repeat(100000)}["x"]`, `43${'9'.repeat(100000)}[]`, `45${'1'.repeat(100000)}-["x"]`]);
  for (const packet of [`40/${'a'.repeat(500000)}`, `42/${'a'.repeat(500000)}`, `40/${'/'.repeat(500000)},`, `40/${'a?'.repeat(200000)},{}`]) {
    const client = await WsClient.session(target);
    client.send(packet);
    await Promise.race([client.next(`an answer to ${brief(packet.slice(0, 10))}...`).catch(() => {}), client.closed('or a close')]);
    client.terminate();
  }
  assert.ok(performance.now() - begun < 10000, 'linear time');
});

attack('a flood of CONNECTs to random namespaces is refused each or closed by a limit, within 32 MiB', async (target) => {
  const client = await member(target, 'flooder');
  await withinMemory(target, 32, '20000 namespaces', async () => {
    for (let i = 0; i < 20000 && client.closeCode === null; i += 1) client.send(`40/x${i},`);
    for (let i = 0; i < 20000 && client.closeCode === null; i += 1) {
      const answer = await client.nextMessage('a refusal or the end', 8000).catch((error) => {
        if (client.closeCode === null) throw error;
        return null;
      });
      if (answer === null) break;
      assert.match(answer, /^44\/x\d+,\{"message":"Invalid namespace"\}$/);
    }
  });
});

attack('a flood of CONNECTs with bad tokens is refused each or closed by a limit', async (target) => {
  const client = await WsClient.session(target);
  for (let i = 0; i < 2000; i += 1) client.send('40{"token":"a.b.c"}');
  for (let i = 0; i < 2000; i += 1) {
    const answer = await client.nextMessage('a refusal or the end').catch(() => null);
    if (answer === null) break;
    assert.equal(answer, refusal('token_invalid'));
  }
});

attack('a flood of unknown events is passed over or closed by a limit; others are served meanwhile', async (target) => {
  const flooder = await member(target, 'flooder');
  const bystander = await member(target, 'bystander-2');
  for (let i = 0; i < 50000; i += 1) flooder.send('42["nobody-listens",{"a":1}]');
  await assertStays(target, bystander, 'bystander-2', 'during the flood');
  flooder.terminate();
});

attack('names of thousands of rooms by the API hit a limit, not the memory', async (target) => {
  if (reference) return;
  const client = await member(target, 'joiner');
  // On a busy machine this takes longer than a client may leave a ping without its answer.
  client.ws.on('message', (data) => String(data) === '2' && client.send('3'));
  await withinMemory(target, 32, 'rooms', async () => {
    for (let i = 0; i < 3000; i += 1) {
      const response = await call(target, 'POST', '/rooms/join', { user: 'joiner', room: `room-${i}` });
      if (response.status !== 200) {
        assert.ok(response.status >= 400 && response.status < 500, `the limit of rooms answers 4xx, got ${response.status}`);
        break;
      }
    }
    const response = await call(target, 'POST', '/rooms/join', { user: 'joiner', room: 'r'.repeat(100000) });
    assert.ok([400, 413, 422].includes(response.status), `a room name of 100 kB is refused, got ${response.status}`);
  });
  await assertStays(target, client, 'joiner', 'after joining rooms');
});

attack('acks are free of charge: an ack flood is ignored', async (target) => {
  const client = await member(target, 'acker');
  for (let i = 0; i < 10000; i += 1) client.send(`43${i}[]`);
  try {
    await assertStays(target, client, 'acker', 'after 10000 acks');
  } catch (error) {
    if (client.closeCode === null) throw error;
  }
});

attack('a user id with the syntax of rooms grants nothing', async (target) => {
  for (const user of ['user:victim', '*', '', 'a b', '../x', '\u0000', 'x'.repeat(129)]) {
    const client = await WsClient.session(target);
    client.send(`40{"token":"${tokenFor(user)}"}`);
    const answer = await client.nextMessage('the answer to CONNECT');
    const bad = user === '' || user.length > 128;
    if (bad) assert.equal(answer, refusal('user_missing'), `user ${brief(user)}`);
    await emit(target, { event: 'stolen', data: 1, user: 'victim' });
    if (!bad && answer.startsWith('40')) {
      assert.ok((await client.nextMessage('connected')).startsWith('42["connected",'));
      await emit(target, { event: 'barrier', data: 1, broadcast: true });
      assert.ok((await client.nextMessage('barrier')).startsWith('42["barrier"'), `user ${brief(user)} gets only what is its own`);
    }
    client.terminate();
  }
});
