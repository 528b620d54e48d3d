// Attacks in WebSocket frames: A1 and so on are the rows of docs/attacks.md.

import assert from 'node:assert/strict';
import { reference } from '../lib/program.mjs';
import { emit, stats } from '../lib/api.mjs';
import { PollingSession, SOCKETIO } from '../lib/engine.mjs';
import { frame, OP, RawWs } from '../lib/rawws.mjs';
import { assertStays, attacks, member, rawMember, withinMemory } from '../lib/hostile.mjs';
import { tokenFor } from '../lib/jwt.mjs';
import { until } from '../lib/wait.mjs';

// Markers are not what these are about, and who does not read is to be closed.
const attack = attacks({ SOCKRING_RECOVERY_WINDOW_S: '0' });

/** Writes frames until the server has closed or all are written; gives how many were taken. */
async function flood(raw, count, make) {
  let sent = 0;
  const batch = 1000;
  while (sent < count && !raw.connection.ended) {
    const parts = [];
    for (let i = 0; i < batch && sent + i < count; i += 1) parts.push(make(sent + i));
    if (!(await raw.write(Buffer.concat(parts)))) break;
    sent += parts.length;
  }
  return sent;
}

attack('A8 a flood of PONG packets is passed over, schedules nothing', async (target) => {
  const client = await member(target, 'ponger');
  for (let i = 0; i < 20000; i += 1) client.send('3');
  if (client.closeCode === null) {
    try {
      await assertStays(target, client, 'ponger', 'after 20000 pongs');
    } catch (error) {
      // Being closed for the flood is fine as well.
      if (client.closeCode === null) throw error;
    }
  }
  const before = client.frames.seen.filter((one) => one === '2').length;
  const end = Date.now() + 2500;
  while (client.closeCode === null && Date.now() < end) {
    const one = await client.next('a ping', 2600).catch(() => null);
    if (one === '2') client.send('3');
  }
  const pings = client.frames.seen.filter((one) => one === '2').length - before;
  assert.ok(pings <= 4, `one ping a second, got ${pings} in 2.5 s`);
});

for (const [words, payload] of [['of one byte', 'a'], ['that are empty', '']]) {
  attack(`A9 131072 fragments ${words}, never FIN: closed with 1008 (or 1009), within 16 MiB`, async (target) => {
    if (reference) return;
    const raw = await rawMember(target, 'fragmenter');
    await withinMemory(target, 16, 'fragments', async () => {
      await raw.send({ fin: false, payload: '4' });
      const sent = await flood(raw, 131072, () => frame({ opcode: OP.continuation, fin: false, payload }));
      const code = await raw.closed('too many fragments');
      assert.ok([1008, 1009, 1006].includes(code), `closed with 1008 or 1009, got ${code} after ${sent} fragments`);
    });
    raw.destroy();
  });
}

attack('A9 a message in many tiny TCP chunks is one message', async (target) => {
  const raw = await rawMember(target, 'chunker');
  const bytes = frame({ payload: `42["nobody-listens","${'x'.repeat(3000)}"]` });
  for (const byte of bytes) await raw.write(Buffer.from([byte]));
  await emit(target, { event: 'barrier', data: 1, user: 'chunker' });
  assert.ok((await raw.nextText('the client stays')).startsWith('42["barrier",1'));
  raw.destroy();
});

attack('A17 a handshake with `test` right behind its headers: 1002 for that socket only', async (target) => {
  const bystander = await member(target, 'near');
  const direct = await RawWs.handshake(target, { after: Buffer.from('test') });
  const session = await PollingSession.open(target);
  const upgrade = await RawWs.handshake(target, { query: `?EIO=4&transport=websocket&sid=${session.sid}`, after: Buffer.from('test') });
  for (const [what, raw] of [['direct', direct], ['upgrade', upgrade]]) {
    if (raw.opening.status === 101) {
      const code = await raw.closed(`${what}: bytes that are no frame`);
      assert.ok([1002, 1006].includes(code), `${what}: 1002 expected, got ${code}`);
    } else {
      assert.equal(raw.opening.status, 400, what);
    }
    raw.destroy();
  }
  session.drop();
  await assertStays(target, bystander, 'near', 'a bystander');
});

attack('A25, A29 declared lengths of 2^63, 2^62, 2^40, 2^31: closed by the header alone, nothing allocated', async (target) => {
  await withinMemory(target, 16, 'declared lengths', async () => {
    for (const length of [2n ** 63n, 2n ** 63n - 1n, 2n ** 62n, 2n ** 40n, 2n ** 31n, 1000001n]) {
      for (const opcode of [OP.text, OP.binary]) {
        const raw = await rawMember(target, 'claimer');
        await raw.send({ opcode, declaredLength: length });
        const code = await raw.closed(`declared length ${length}`);
        assert.ok([1002, 1009, 1006].includes(code), `declared length ${length}: 1009 (or 1002) expected, got ${code}`);
        raw.destroy();
      }
    }
  });
});

attack('A25 lengths that are not written in the shortest form, control frames over 125 bytes: 1002', async (target) => {
  for (const opcode of [OP.ping, OP.pong, OP.close]) {
    const raw = await rawMember(target, 'control');
    await raw.send({ opcode, payload: 'x'.repeat(126) });
    assert.equal(await raw.closed(`control frame ${opcode} of 126 bytes`), 1002);
    raw.destroy();
    const fragmented = await rawMember(target, 'control');
    await fragmented.send({ opcode, payload: '', fin: false });
    assert.equal(await fragmented.closed(`control frame ${opcode} without FIN`), 1002);
    fragmented.destroy();
  }
  if (reference) return;
  // A length of 3 in 64 bits: RFC 6455 section 5.2 wants the shortest form.
  const raw = await rawMember(target, 'control');
  await raw.send({ payload: '42x', declaredLength: 3 });
  assert.equal(await raw.closed('a length in the long form'), 1002);
  raw.destroy();
});

attack('A26 reserved bits are 1002: no extension was agreed', async (target) => {
  for (const rsv of [4, 2, 1, 7]) {
    const raw = await rawMember(target, 'reserved');
    await raw.send({ payload: '42["x"]', rsv });
    assert.equal(await raw.closed(`reserved bits ${rsv}`), 1002);
    raw.destroy();
  }
});

attack('reserved opcodes are 1002; a continuation of nothing, a new message inside a message as well', async (target) => {
  for (const opcode of [3, 4, 5, 6, 7, 11, 12, 13, 14, 15]) {
    const raw = await rawMember(target, 'opcode');
    await raw.send({ opcode, payload: '' });
    assert.equal(await raw.closed(`opcode ${opcode}`), 1002);
    raw.destroy();
  }
  const lone = await rawMember(target, 'opcode');
  await lone.send({ opcode: OP.continuation, payload: 'x' });
  assert.equal(await lone.closed('a continuation of nothing'), 1002);
  const nested = await rawMember(target, 'opcode');
  await nested.send({ fin: false, payload: '4' });
  await nested.send({ payload: '42["x"]' });
  assert.equal(await nested.closed('a message inside a message'), 1002);
  lone.destroy();
  nested.destroy();
});

attack('close codes below 1000 and the ones that must not be sent: 1002; broken reasons: 1002 or 1007', async (target) => {
  for (const code of [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]) {
    const raw = await rawMember(target, 'closer');
    await raw.send({ opcode: OP.close, payload: Buffer.from([code >> 8, code & 255]) });
    assert.equal(await raw.closed(`close code ${code}`), 1002, `close code ${code}`);
    raw.destroy();
  }
  for (const [payload, expected] of [[[0x03], [1002]], [[0x03, 0xe8, 0xff], [1007, 1002]]]) {
    const raw = await rawMember(target, 'closer');
    await raw.send({ opcode: OP.close, payload: Buffer.from(payload) });
    const code = await raw.closed('a broken close payload');
    assert.ok(expected.includes(code), `${expected} expected, got ${code}`);
    raw.destroy();
  }
});

attack('frames after the close frame are not processed; TCP ends although the peer never answers', async (target) => {
  const raw = await rawMember(target, 'late');
  await raw.write(Buffer.concat([frame({ opcode: OP.close, payload: Buffer.from([0x03, 0xe8]) }), frame({ payload: '42["message","late"]' }), frame({ opcode: OP.ping, payload: 'late' })]));
  assert.equal(await raw.closed('close frame'), 1000);
  const rest = await raw.connection.closed(5000, 'TCP ends after the close handshake');
  assert.equal(rest.length, 0, 'nothing after the close frame');
});

attack('a ping flood is bounded, and the pongs of a peer that does not read do not pile up', async (target) => {
  if (reference) return;
  const raw = await rawMember(target, 'pinger');
  await withinMemory(target, 24, 'ping flood', async () => {
    raw.connection.socket.pause();
    const sent = flood(raw, 200000, () => frame({ opcode: OP.ping, payload: 'x'.repeat(125) }));
    await Promise.race([sent, until(6000, 'flood', () => raw.connection.ended || false).catch(() => {})]);
    raw.connection.reset();
    await sent;
  });
});

attack('A37 a subscriber that stops reading is closed by the limit of its queue; others get their events', async (target) => {
  if (reference) return;
  const reader = await member(target, 'reader');
  const raw = await rawMember(target, 'sleeper');
  raw.connection.socket.pause();
  await withinMemory(target, 64, '60 MB for a client that does not read', async () => {
    const data = 'x'.repeat(200000);
    let gone = -1;
    for (let i = 0; i < 300 && gone < 0; i += 1) {
      const { delivered } = await emit(target, { event: 'bulk', data, user: 'sleeper' });
      if (delivered === 0) gone = i;
    }
    assert.ok(gone >= 0, 'after 60 MB the client is still fed: its queue has no limit');
  });
  await assertStays(target, reader, 'reader', 'a client that reads');
  await until(5000, 'one client is left', () => stats(target), (data) => data.connected === 1);
  raw.destroy();
});

attack('A37 a polling client that does not poll is bounded too', async (target) => {
  if (reference) return;
  const session = await PollingSession.open(target);
  await session.send(`40{"token":"${tokenFor('idle')}"}`);
  await session.pollPackets(2);
  await withinMemory(target, 64, 'events for a client that does not poll', async () => {
    const data = 'x'.repeat(200000);
    for (let i = 0; i < 300; i += 1) {
      const { delivered } = await emit(target, { event: 'bulk', data, user: 'idle' });
      if (delivered === 0) break;
    }
  });
  session.drop();
});

attack('connections cut in every state', async (target) => {
  for (let i = 0; i < 20; i += 1) {
    const half = await RawWs.handshake(target);
    half.reset();
    const joined = await rawMember(target, 'cut');
    await joined.write(frame({ payload: '42["half' }).subarray(0, 5));
    joined.reset();
    const awaiting = await rawMember(target, 'cut');
    await awaiting.send({ payload: '451-["x",{"_placeholder":true,"num":0}]' });
    awaiting.reset();
    const session = await PollingSession.open(target);
    const held = await session.hold();
    const probe = await RawWs.handshake(target, { path: SOCKETIO, query: `?EIO=4&transport=websocket&sid=${session.sid}` });
    await probe.send({ payload: '2probe' });
    held.reset();
    probe.reset();
    session.drop();
  }
});
