// Who may connect, as the real clients see it.

import assert from 'node:assert/strict';
import { afterEach } from 'node:test';
import { startSockring } from '../lib/program.mjs';
import { emit } from '../lib/api.mjs';
import { assertRefusal, request } from '../lib/http.mjs';
import { SOCKETIO } from '../lib/engine.mjs';
import { RawWs } from '../lib/rawws.mjs';
import { Client, closeClients, versions } from '../lib/client.mjs';
import { now, sign, tokenFor } from '../lib/jwt.mjs';
import { suite } from '../lib/suite.mjs';

const row = suite(() => startSockring());
afterEach(closeClients);

const REQUIRED = 'Authentication token required';
const FAILED = 'Authentication failed';
const good = () => ({ _id: 'auth-user', exp: now() + 600 });

const refusals = [
  ['missing', undefined, REQUIRED, 'token_missing'],
  ['empty', '', REQUIRED, 'token_missing'],
  ['no JWT', 'nonsense', FAILED, 'token_invalid'],
  ['signed with another secret', sign(good(), { key: 'another secret of at least 32 bytes' }), FAILED, 'token_invalid'],
  ['expired', sign({ _id: 'auth-user', exp: now() - 1 }), FAILED, 'token_expired'],
  ['not yet valid', sign({ ...good(), nbf: now() + 600 }), FAILED, 'token_invalid'],
  ['alg none', sign(good(), { header: { alg: 'none', typ: 'JWT' } }), FAILED, 'token_invalid'],
  ['alg None', sign(good(), { header: { alg: 'None', typ: 'JWT' } }), FAILED, 'token_invalid'],
  ['without _id', sign({ exp: now() + 600 }), FAILED, 'user_missing'],
];

// The server ends a client with its fifth refusal in a row.
const REFUSALS = 4;

for (const version of versions) {
  for (const transports of [['polling'], ['websocket']]) {
    row(`socket.io-client ${version}, ${transports[0]}: each bad token gets its connect_error; a later valid one on the same manager connects`, async (target) => {
      let client;
      for (const [number, [words, token, message, code]] of refusals.entries()) {
        if (number % REFUSALS === 0) {
          await client?.closed();
          client = await Client.create(version, target, { token, transports });
        } else {
          client.socket.auth = { token };
          client.socket.connect();
        }
        const error = await client.error();
        assert.ok(error instanceof Error, `${words}: an Error`);
        assert.equal(error.message, message, `token ${words}`);
        // Clients before version 3.1 do not pass it on.
        if (version !== '3.0.0') assert.deepEqual(error.data, { code }, `token ${words}`);
        assert.equal(client.socket.connected, false);
      }
      client.socket.auth = { token: tokenFor('auth-user') };
      client.socket.connect();
      await client.connectedNow();
      await emit(target, { event: 'barrier', data: 1, user: 'auth-user' });
      assert.equal(await client.event('barrier'), 1);
      await client.closed();
    });

    row(`socket.io-client ${version}, ${transports[0]}: token in the Authorization header`, async (target) => {
      const client = await Client.connected(version, target, { transports, extraHeaders: { Authorization: `Bearer ${tokenFor('header-user')}` } });
      assert.equal(client.welcome.userId, 'header-user');
      const wrong = await Client.create(version, target, { transports, extraHeaders: { Authorization: 'Bearer nonsense' } });
      assert.equal((await wrong.error()).message, FAILED);
      const both = await Client.connected(version, target, { token: tokenFor('payload-user'), transports, extraHeaders: { Authorization: `Bearer ${tokenFor('header-user')}` } });
      assert.equal(both.welcome.userId, 'payload-user', 'the CONNECT payload goes first');
    });
  }

  row(`socket.io-client ${version}: auth given as a function`, async (target) => {
    const client = await Client.connected(version, target, { auth: (give) => give({ token: tokenFor('callback-user') }) });
    assert.equal(client.welcome.userId, 'callback-user');
  });
}

row('a numeric id is the user of its digits, and times may have a fraction', async (target) => {
  const claims = { _id: 42, exp: Date.now() / 1000 + 600.5, nbf: Date.now() / 1000 - 0.25 };
  const client = await Client.connected('4.8.4', target, { token: sign(claims) });
  assert.equal(client.welcome.userId, '42');
});

row('HS384 and HS512 with the same secret are accepted', async (target) => {
  for (const alg of ['HS384', 'HS512']) {
    const client = await Client.connected('4.8.4', target, { token: sign(good(), { header: { alg, typ: 'JWT' } }) });
    assert.equal(client.welcome.userId, 'auth-user', alg);
  }
});

row('socket.io-client 2.x (EIO=3) is refused with code 5', async (target) => {
  assertRefusal(await request(target, `${SOCKETIO}?EIO=3&transport=polling&t=Nxyz&b64=1`), 400, 5, 'polling handshake of socket.io-client 2.x');
  const raw = await RawWs.handshake(target, { query: '?EIO=3&transport=websocket' });
  assert.ok([400, 101].includes(raw.opening.status), `WebSocket handshake with EIO=3: refused, got ${raw.opening.status}`);
  const rest = await raw.connection.closed(2000, 'WebSocket handshake with EIO=3');
  assert.ok(!rest.includes('"sid"'), 'no open packet');
});
