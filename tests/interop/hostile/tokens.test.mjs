// A38: tokens that a login would never mint.

import assert from 'node:assert/strict';
import { generateKeyPairSync, sign as signature } from 'node:crypto';
import { reference, secret } from '../lib/program.mjs';
import { request } from '../lib/http.mjs';
import { WsClient } from '../lib/engine.mjs';
import { attacks } from '../lib/hostile.mjs';
import { now, refusal, sign } from '../lib/jwt.mjs';
import { brief } from '../lib/wait.mjs';

const attack = attacks();
const claims = () => ({ _id: 'victim', exp: now() + 600 });
const part = (text) => Buffer.from(text).toString('base64url');
const REFUSED = ['token_invalid', 'token_expired', 'user_missing'].map(refusal);

/** Signs a claims text as it is: for JSON that JSON.stringify would not write. */
function signText(text, header = '{"alg":"HS256","typ":"JWT"}') {
  return sign(text, { header: JSON.parse(header) });
}

async function eachRefused(target, tokens) {
  for (const [words, token] of tokens) {
    const client = await WsClient.session(target);
    client.send(`40${JSON.stringify({ token })}`);
    const answer = await client.nextMessage(`the answer to a token with ${words}`);
    assert.ok(REFUSED.includes(answer), `token with ${words}: ${brief(token)} gets ${answer}`);
    client.terminate();
  }
}

attack('A38 alg none in all spellings, stripped and empty signatures', (target) => eachRefused(target, [
  ...['none', 'None', 'NONE', 'nOnE', ''].map((alg) => [`alg ${alg}`, sign(claims(), { header: { alg } })]),
  ['no alg', sign(claims(), { header: { typ: 'JWT' } })],
  ['the signature cut off', sign(claims()).replace(/[^.]+$/, '')],
  ['two parts', sign(claims()).split('.').slice(0, 2).join('.')],
  ...(reference ? [] : [['four parts', `${sign(claims())}.x`]]),
  ['an altered claim', sign(claims()).replace(/\.[^.]+\./, `.${part(JSON.stringify({ ...claims(), _id: 'admin' }))}.`)],
]));

attack('A38 algorithm confusion: RS256, ES256, EdDSA headers signed by HMAC or by a key of the attacker', (target) => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const header = { alg: 'RS256', typ: 'JWT', jwk: publicKey.export({ format: 'jwk' }) };
  const body = `${part(JSON.stringify(header))}.${part(JSON.stringify(claims()))}`;
  const own = `${body}.${signature('sha256', Buffer.from(body), privateKey).toString('base64url')}`;
  return eachRefused(target, [
    ...['RS256', 'ES256', 'EdDSA', 'PS256', 'hs256', 'HS1', 'HS257'].map((alg) => [`alg ${alg} signed by HMAC`, sign(claims(), { header: { alg, typ: 'JWT' } })]),
    ['a key of its own in the header', own],
    ['HS256 with an empty key', sign(claims(), { key: '' })],
    ['HS256 with the name of the secret', sign(claims(), { key: 'ACCESS_TOKEN_SECRET' })],
  ]);
});

attack('A38 exp and nbf as string, null, negative, overflow, or in the past', (target) => {
  const at = (exp) => signText(`{"_id":"victim","exp":${exp}}`);
  return eachRefused(target, [
    ['exp 0', at(0)], ['exp -1', at(-1)], ['exp now', at(now())], ['exp as a string', at(`"${now() + 600}"`)],
    ...(reference ? [] : [['exp null', at('null')], ['exp 1e400', at('1e400')], ['exp -1e400', at('-1e400')]]),
    ['exp as an object', at('{}')], ['exp true', at('true')], ['exp as an array', at('[]')],
    ['nbf in the future', signText(`{"_id":"victim","exp":${now() + 600},"nbf":${now() + 60}}`)],
    ['nbf as a string', signText(`{"_id":"victim","exp":${now() + 600},"nbf":"0"}`)],
  ]);
});

attack('A38 crit with an unknown extension', (target) => (reference ? undefined : eachRefused(target, [
  ['crit', sign(claims(), { header: { alg: 'HS256', crit: ['exp-v2'], 'exp-v2': 1 } })],
])));

attack('A38 kid with a path or a URL fetches nothing and changes nothing', async (target) => {
  for (const kid of ['../../../../dev/null', 'http://127.0.0.1:1/jwks', "x' UNION SELECT 'secret", '\u0000']) {
    await eachRefused(target, [[`kid ${kid} and another key`, sign(claims(), { header: { alg: 'HS256', kid }, key: '' })]]);
  }
});

attack('A38 _id that is neither a string nor a whole number, empty, or too long', (target) => eachRefused(target, [
  ...['1.5', 'null', 'true', '{}', '[]', '["victim"]', '""', `"${'x'.repeat(129)}"`].map((id) => [`_id ${id.slice(0, 12)}`, signText(`{"_id":${id},"exp":${now() + 600}}`)]),
  ['claims that are no object', signText('"victim"')],
  ['claims that are an array', signText('[{"_id":"victim"}]')],
  ['claims that are no JSON', signText('{')],
]));

attack('A38 a token of 900 kB is not read: before a CONNECT is accepted a message has 16 KiB', async (target) => {
  for (const length of [20000, 400000, 900000]) {
    const client = await WsClient.session(target);
    client.send(`40{"token":"${sign({ ...claims(), pad: 'x'.repeat(length) })}"}`);
    assert.equal(await client.closed(`a token of more than ${length} bytes`), 1009);
  }
  await eachRefused(target, [['15 kB of nonsense', 'a'.repeat(15000)], ['15 kB of dots', '.'.repeat(15000)]]);
});

attack('A38 token of another type than string: refused, in words', async (target) => {
  for (const token of ['1', 'true', '{}', '[]', '["a"]', 'null']) {
    const client = await WsClient.session(target);
    client.send(`40{"token":${token}}`);
    const answer = await client.nextMessage(`the answer to the token ${token}`);
    assert.equal(answer, refusal(token === 'null' ? 'token_missing' : 'token_invalid'), `token ${token}`);
    client.terminate();
  }
});

attack('the secret is never told by an answer', async (target) => {
  for (const path of ['/', '/health', '/ready', '/metrics', '/api/v1/websocket/events']) {
    const response = await request(target, path);
    assert.ok(!response.text.includes(secret), `${path} must not show the secret`);
  }
  assert.ok(!target.said().includes(secret), 'the log must not show a configured secret');
});
