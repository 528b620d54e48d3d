// Every state that a client can leave half open ends by a deadline: each at a server of its own, all of them at the same time.

import assert from 'node:assert/strict';
import { reference } from '../lib/program.mjs';
import { RawConnection, requestBytes } from '../lib/http.mjs';
import { PollingSession, WsClient } from '../lib/engine.mjs';
import { RawWs } from '../lib/rawws.mjs';
import { attacksAtOnce, member, rawMember } from '../lib/hostile.mjs';

const LONGEST = 40000;

/** Answers pings, so that only the deadline itself can end the client. */
function keepPonging(client) {
  client.ws.on('message', (data, isBinary) => {
    if (!isBinary && data.toString() === '2') client.send('3');
  });
}

function keepPongingRaw(raw) {
  // Between the fragments of a message no text may be sent: the pong would break it. Control frames may.
  const timer = setInterval(() => raw.send({ opcode: 9, payload: '' }), 300);
  return () => clearInterval(timer);
}

const states = {
  async 'a connection that says nothing'(target) {
    const connection = await RawConnection.open(target);
    return () => connection.closed(LONGEST, 'a silent connection is closed');
  },
  async 'a head that never ends (slow loris)'(target) {
    const connection = await RawConnection.open(target);
    await connection.write('GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n');
    const timer = setInterval(() => connection.write('X-A: b\r\n'), 500);
    return () => connection.closed(LONGEST, 'a head that never ends is closed').finally(() => clearInterval(timer));
  },
  async 'a body that never ends'(target) {
    const session = await PollingSession.open(target);
    const connection = await RawConnection.open(target);
    await connection.write(requestBytes('POST', session.query, { 'Content-Length': '100000' }));
    const timer = setInterval(() => connection.write('4'), 500);
    return () => connection.closed(LONGEST, 'a body that never ends is closed').finally(() => clearInterval(timer));
  },
  async 'a body for the API that never ends'(target) {
    const connection = await RawConnection.open(target);
    await connection.write(requestBytes('POST', '/api/v1/websocket/emit', { 'x-api-key': 'interop-api-key', 'Content-Type': 'application/json', 'Content-Length': '1000' }));
    const timer = setInterval(() => connection.write(' '), 500);
    return () => connection.closed(LONGEST, 'an API body that never ends is closed').finally(() => clearInterval(timer));
  },
  async 'a session never claimed'(target) {
    const session = await PollingSession.open(target);
    return () => session.goneWithin(LONGEST, 'a session never claimed').finally(() => session.drop());
  },
  async 'a WebSocket that never sends CONNECT'(target) {
    const client = await WsClient.session(target);
    keepPonging(client);
    return () => client.closed('no CONNECT', LONGEST);
  },
  async 'an upgrade never finished'(target) {
    const session = await PollingSession.open(target);
    const client = await WsClient.open(`${target.wsUrl}/socket.io/?EIO=4&transport=websocket&sid=${session.sid}`);
    client.send('2probe');
    return () => client.closed('an upgrade never finished', LONGEST);
  },
  async 'attachments never completed'(target) {
    const client = await member(target, 'withholder');
    keepPonging(client);
    client.send('452-["x",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]');
    client.send(Buffer.from([1]));
    return () => client.closed('an attachment is withheld for ever, heartbeats go on', LONGEST);
  },
  async 'a fragmented message never completed'(target) {
    const raw = await rawMember(target, 'fragmenter');
    await raw.send({ fin: false, payload: '42["' });
    const stop = keepPongingRaw(raw);
    return () => raw.closed('a fragmented message never completed', LONGEST).finally(stop);
  },
  async 'a frame never completed'(target) {
    const raw = await RawWs.session(target);
    await raw.write(Buffer.from([0x81, 0xfe, 0x01]));
    return () => raw.closed('a frame never completed', LONGEST);
  },
  async 'a close handshake never answered'(target) {
    const raw = await rawMember(target, 'rude');
    await raw.send({ payload: '4abc' });
    return () => raw.connection.closed(LONGEST, 'TCP ends although the close frame of the server is not answered');
  },
};

const KNOWN = ['a session never claimed', 'a WebSocket that never sends CONNECT', 'an upgrade never finished', 'a frame never completed', 'a close handshake never answered'];

const alone = Object.entries(states).filter(([name]) => !reference || KNOWN.includes(name)).map(([name, enter]) => ({
  name: `${name} ends by a deadline`,
  async body(target) {
    const wait = await enter(target);
    const begun = performance.now();
    await wait();
    if (process.env.VERBOSE) console.error(`${name}: ended after ${(performance.now() - begun).toFixed(0)} ms`);
  },
}));

const together = {
  name: 'a hundred of each at once',
  async body(target) {
    const waits = [];
    for (const enter of Object.values(states)) waits.push(...(await Promise.all(Array.from({ length: 100 }, () => enter(target)))));
    const results = await Promise.allSettled(waits.map((wait) => wait()));
    const late = results.filter((one) => one.status === 'rejected');
    assert.equal(late.length, 0, `${late.length} of ${results.length} did not end: ${late[0]?.reason?.message}`);
  },
  empty: 20000,
};

attacksAtOnce('half open', { SOCKRING_CONNECT_TIMEOUT_MS: '1500' }, { timeout: 120000 }, reference ? alone : [...alone, together]);
